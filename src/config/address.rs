//! Addresses to listen on: `HOST` with `PORT`, and `ADMIN_ADDR`.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// The settings with their values, for messages.
    settings: String,
    host: String,
    port: u16,
}

impl ListenAddress {
    /// The address of `HOST` and `PORT`. An IPv6 address may be in brackets.
    pub fn new(host: &str, port: u16) -> Self {
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let settings = format!("HOST=`{host}` PORT={port}");
        Self { settings, host: inner.unwrap_or(host).to_owned(), port }
    }

    /// Parses the address of `ADMIN_ADDR`.
    ///
    /// # Errors
    /// A message to follow the variable's name.
    pub fn parse_admin(text: &str) -> Result<Self, String> {
        let address: SocketAddr = text.parse().map_err(|_| {
            format!("is `{text}`: it must be an address with a port, such as 127.0.0.1:9464 or [::1]:9464")
        })?;
        let settings = format!("ADMIN_ADDR=`{text}`");
        Ok(Self { settings, host: address.ip().to_string(), port: address.port() })
    }

    /// All addresses of the host.
    ///
    /// # Errors
    /// Names the settings, their values, the cause and what to do.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        addresses.map(Iterator::collect).map_err(|error| self.explain("resolve", &error))
    }

    /// Listens on the first of the addresses that is possible.
    ///
    /// # Errors
    /// As for [`ListenAddress::resolve`].
    pub fn bind(&self) -> Result<TcpListener, String> {
        TcpListener::bind(self.resolve()?.as_slice()).map_err(|error| self.explain("listen on", &error))
    }

    fn explain(&self, action: &str, error: &io::Error) -> String {
        let hint =
            "give an address of this machine, such as 0.0.0.0, without quotes or scheme, and a free port from 1024 on";
        format!("cannot {action} {}: {error}; {hint}", self.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_an_address_or_a_name_with_or_without_brackets() {
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("0.0.0.0", "0.0.0.0:80"),
            ("localhost", "127.0.0.1:80"),
            ("::", "[::]:80"),
            ("[::]", "[::]:80"),
            ("[::1]", "[::1]:80"),
        ] {
            let addresses = ListenAddress::new(host, 80).resolve().unwrap();
            assert!(addresses.contains(&address.parse().unwrap()), "{host}: {addresses:?}");
        }
    }

    #[test]
    fn host_that_cannot_be_used_is_named_with_its_value() {
        // Documentation addresses (RFC 5737, RFC 3849): no machine has them.
        for host in ["192.0.2.7", "[2001:db8::7]"] {
            let message = ListenAddress::new(host, 0).bind().unwrap_err();
            assert!(message.contains(&format!("HOST=`{host}` PORT=0")), "{message}");
            assert!(message.contains("give an address of this machine"), "{message}");
        }
        for host in ["x86_64-conda-linux-gnu", "\"127.0.0.1\""] {
            // No lookup: it would ask a name server.
            let message = ListenAddress::new(host, 0).explain("resolve", &io::ErrorKind::NotFound.into());
            assert!(message.contains(&format!("HOST=`{host}`")) && message.contains("without quotes"), "{message}");
        }
    }

    #[test]
    fn admin_address_that_cannot_be_used_is_named_with_its_value() {
        let message = ListenAddress::parse_admin("192.0.2.7:0").unwrap().bind().unwrap_err();
        assert!(message.starts_with("cannot listen on ADMIN_ADDR=`192.0.2.7:0`: "), "{message}");
        assert!(message.contains("; give an address of this machine"), "{message}");
    }

    #[test]
    fn port_in_use_is_named() {
        let listener = ListenAddress::new("127.0.0.1", 0).bind().unwrap();
        let taken = listener.local_addr().unwrap();
        for (address, name) in [
            (ListenAddress::new("127.0.0.1", taken.port()), format!("HOST=`127.0.0.1` PORT={}", taken.port())),
            (ListenAddress::parse_admin(&taken.to_string()).unwrap(), format!("ADMIN_ADDR=`{taken}`")),
        ] {
            let message = address.bind().unwrap_err();
            assert!(message.contains(&name) && message.contains("a free port"), "{message}");
        }
        drop(listener);
        ListenAddress::new("127.0.0.1", taken.port()).bind().unwrap();
    }
}
