//! What the server says while it lets us in, of which the library keeps one thing to itself.

/// The longest message that is listened to, in bytes.
const MAX_LOGIN_MESSAGE_BYTES: usize = 64 * 1024;

/// Listens to what the server says, for the library keeps the backend's number to itself. Each message is a letter, a length of
/// four bytes that counts itself, and content; that of `K` (BackendKeyData) begins with the number.
#[derive(Debug, Default)]
pub struct Login {
    unread: Vec<u8>,
}

impl Login {
    /// Hears more bytes; the number, if they hold it.
    pub fn hear(&mut self, bytes: &[u8]) -> Option<u32> {
        self.unread.extend_from_slice(bytes);
        let (mut at, mut backend) = (0, None);
        while let Some((&[letter, a, b, c, d], content)) = self.unread[at..].split_first_chunk() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let Some(content) = length.checked_sub(4).and_then(|length| content.get(..length)) else { break };
            if let (b'K', Some(number)) = (letter, content.first_chunk()) {
                backend = Some(u32::from_be_bytes(*number));
            }
            at += 1 + length;
        }
        self.unread.drain(..at);
        // No message is so long before something is asked for: it is none, or nobody will need to know where it ends.
        self.unread.truncate(MAX_LOGIN_MESSAGE_BYTES);
        backend
    }

    /// What has come of a message that is not complete.
    pub fn unread(self) -> Vec<u8> {
        self.unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_heard_in_whatever_pieces_the_login_comes() {
        let said = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x09a\0b\0\0K\0\0\0\x0c\0\x01\x02\x03\0\0\0\0Z\0\0\0\x05IN\0";
        for cut in 0..said.len() {
            let mut login = Login::default();
            let backend = login.hear(&said[..cut]).or(login.hear(&said[cut..]));
            assert_eq!(backend, Some(0x0001_0203), "{cut}");
            assert_eq!(login.unread(), b"N\0", "{cut}");
        }
    }

    #[test]
    fn what_is_no_login_is_not_kept() {
        let mut login = Login::default();
        for _ in 0..3 {
            assert_eq!(login.hear(&[b'H'; MAX_LOGIN_MESSAGE_BYTES]), None);
        }
        assert_eq!(login.unread().len(), MAX_LOGIN_MESSAGE_BYTES);
    }
}
