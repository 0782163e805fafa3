//! What the server says while it lets us in, of which the library keeps to itself the number of the backend, and where it ends.

/// The longest message that is listened to, in bytes.
const MAX_LOGIN_MESSAGE_BYTES: usize = 64 * 1024;

/// Listens. Each message is a letter, a length of four bytes that counts itself, and content; that of `K` (BackendKeyData) begins with
/// the number.
#[derive(Debug, Default)]
pub struct Login {
    unread: Vec<u8>,
    /// How much is still to come of a message that is too long, in bytes.
    passed_over: usize,
}

impl Login {
    /// Hears more bytes; the number, if they hold it.
    pub fn hear(&mut self, bytes: &[u8]) -> Option<u32> {
        let passed_over = self.passed_over.min(bytes.len());
        self.passed_over -= passed_over;
        self.unread.extend_from_slice(&bytes[passed_over..]);
        let (mut at, mut backend) = (0, None);
        while let Some((&[letter, a, b, c, d], content)) = self.unread[at..].split_first_chunk() {
            let length = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
            let Some(own) = content.get(..length) else {
                if length > MAX_LOGIN_MESSAGE_BYTES {
                    self.passed_over = length - content.len();
                    at = self.unread.len();
                }
                break;
            };
            if let (b'K', Some(number)) = (letter, own.first_chunk()) {
                backend = Some(u32::from_be_bytes(*number));
            }
            at += 5 + length;
        }
        self.unread.drain(..at);
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
    fn a_message_that_is_too_long_is_passed_over() {
        let notice = [b"N", &(4 + 100_000_u32).to_be_bytes()[..], &[b'K'; 100_000]].concat();
        let mut login = Login::default();
        for piece in notice.chunks(999) {
            assert_eq!(login.hear(piece), None);
            assert!(login.unread.len() < 1_000);
        }
        assert_eq!(login.hear(b"K\0\0\0\x0c\0\x01\x02\x03\0\0\0\0Z"), Some(0x0001_0203));
        assert_eq!(login.unread(), b"Z");
    }
}
