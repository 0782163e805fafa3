//! What the server says while it lets us in, of which the client keeps one thing to itself.

use std::sync::Arc;

use super::stream::Peer;

/// The longest message that is listened to while the server lets us in, in bytes.
const MAX_LOGIN_MESSAGE_BYTES: usize = 64 * 1024;

/// Listens to what the server says at login, for the client keeps the backend's number to itself. Each message is a letter, a
/// length of four bytes that counts itself, and content; `K` (BackendKeyData) begins with the number, `Z` ends the login.
pub struct Login {
    unread: Vec<u8>,
    peer: Arc<Peer>,
}

impl Login {
    /// Tells `peer` what it hears.
    pub fn new(peer: Arc<Peer>) -> Self {
        Self { unread: Vec::new(), peer }
    }

    /// What has come since the login was over.
    pub fn rest(&self) -> &[u8] {
        &self.unread
    }

    /// Hears more bytes; says whether there is nothing more to hear.
    pub fn is_over(&mut self, bytes: &[u8]) -> bool {
        self.unread.extend_from_slice(bytes);
        while let Some((&[letter, a, b, c, d], content)) = self.unread.split_first_chunk() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let Some(content) = length.checked_sub(4).and_then(|length| content.get(..length)) else {
                // No login message is long; one that seems so is none.
                return length > MAX_LOGIN_MESSAGE_BYTES;
            };
            if let (b'K', Some(number)) = (letter, content.first_chunk()) {
                self.peer.announce(u32::from_be_bytes(*number));
            }
            self.unread.drain(..1 + length);
            if letter == b'Z' {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_heard_in_whatever_pieces_the_login_comes() {
        let login = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x09a\0b\0\0K\0\0\0\x0c\0\x01\x02\x03\0\0\0\0Z\0\0\0\x05I";
        for cut in 0..login.len() {
            let peer = Arc::new(Peer::default());
            let mut listener = Login::new(Arc::clone(&peer));
            assert!(!listener.is_over(&login[..cut]), "{cut}");
            assert!(listener.is_over(&[&login[cut..], b"N\0"].concat()), "{cut}");
            assert_eq!(listener.rest(), b"N\0", "{cut}");
            assert!(peer.is_backend(0x0001_0203), "{cut}");
        }
    }

    #[test]
    fn what_is_no_login_is_not_listened_to_for_ever() {
        let mut listener = Login::new(Arc::default());
        assert!(listener.is_over(b"HTTP/1.1 400 Bad Request"));
    }
}
