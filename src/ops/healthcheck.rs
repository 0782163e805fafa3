//! `--healthcheck`: asks the running server whether it is alive, for images that hold no other program.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long it may take to connect, to take the question, and to say anything.
const TIMEOUT: Duration = Duration::from_secs(2);
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 ";

/// Asks the server that listens on this host and port for `/health`.
///
/// # Errors
/// Says why it is not alive.
pub fn ask(host: &str, port: u16) -> Result<(), String> {
    if port == 0 {
        return Err("PORT is 0, so only the server's log knows where it listens".to_owned());
    }
    let address = (host, port).to_socket_addrs().map_err(|error| format!("HOST is {host}: {error}"))?.next();
    let address = connectable(address.ok_or_else(|| format!("HOST is {host}, which has no address"))?);
    match ask_at(address) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("what listens on {address} does not answer /health with 200")),
        Err(error) => Err(format!("nobody answers on {address}: {error}")),
    }
}

/// Who listens on every address listens on the loopback one, too; and only there can be connected to.
fn connectable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn ask_at(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut line = [0; STATUS_LINE.len()];
    stream.read_exact(&mut line)?;
    Ok(line == STATUS_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_means_the_loopback_one() {
        for (listens_on, asked_at) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.7:1", "192.0.2.7:1"),
            ("[2001:db8::7]:1", "[2001:db8::7]:1"),
        ] {
            let address = connectable(listens_on.parse().unwrap());
            assert_eq!(address, asked_at.parse::<SocketAddr>().unwrap());
        }
    }
}
