//! `--healthcheck`: asks the running server for `/health`. For images that contain no other program.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Timeout of connecting, and of each write and read.
const TIMEOUT: Duration = Duration::from_secs(2);
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 ";

/// Asks each address for `/health`, until one answers 200.
///
/// # Errors
/// What each address did instead.
pub fn check(addresses: &[SocketAddr]) -> Result<(), String> {
    let mut failures = Vec::new();
    for address in addresses {
        match is_healthy(address) {
            Ok(true) => return Ok(()),
            Ok(false) => failures.push(format!("{address} does not answer /health with 200")),
            Err(error) => failures.push(format!("no response from {address}: {error}")),
        }
    }
    Err(failures.join("; "))
}

/// The system connects to an unspecified address (`0.0.0.0`, `::`) at the loopback address.
fn is_healthy(address: &SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut line = [0; STATUS_LINE.len()];
    stream.read_exact(&mut line)?;
    Ok(line == STATUS_LINE)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers one request like this.
    fn server(response: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&stream).lines();
            assert!(lines.any(|line| line.unwrap().is_empty()));
            stream.write_all(response).unwrap();
        });
        address
    }

    #[test]
    fn host_is_healthy_when_any_of_its_addresses_is() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failing = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let healthy = server(b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(check(&[closed, failing, healthy]), Ok(()));
    }

    #[test]
    fn host_that_is_not_healthy_is_reported_by_address() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failing = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let message = check(&[closed, failing]).unwrap_err();
        assert!(message.contains(&format!("no response from {closed}: ")), "{message}");
        assert!(message.contains(&format!("{failing} does not answer")), "{message}");
    }

    #[test]
    fn unspecified_address_is_asked_at_the_loopback_address() {
        let mut address = server(b"HTTP/1.1 200 OK\r\n\r\n");
        address.set_ip([0, 0, 0, 0].into());
        assert_eq!(check(&[address]), Ok(()));
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let mut address = listener.local_addr().unwrap();
        address.set_ip("::".parse().unwrap());
        assert!(TcpStream::connect_timeout(&address, TIMEOUT).is_ok());
    }
}
