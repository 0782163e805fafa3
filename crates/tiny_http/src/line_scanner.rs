//! A scanner that finds the end of a request head byte by byte, and checks line ends and sizes on the way.

use crate::head::{BAD_REQUEST_LINE, HttpError};
use crate::limits::Limits;

const HEAD_TOO_LARGE: HttpError = HttpError::new(431, "The request head is too large");
const URL_TOO_LONG: HttpError = HttpError::new(414, "The request target is too long");

#[derive(Debug, Default)]
pub(crate) struct LineScanner {
    scanned: usize,
    /// Bytes of the current line, without its end.
    line: usize,
    after_cr: bool,
    /// Lines seen, without empty ones before the request line (RFC 9112, section 2.2).
    lines: usize,
    spaces: usize,
    target: usize,
}

impl LineScanner {
    /// Continues where the last call ended. Returns the length of the head once its empty line has arrived.
    pub(crate) fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, HttpError> {
        while let Some(&byte) = bytes.get(self.scanned) {
            if self.scanned >= limits.max_head_bytes {
                return Err(HEAD_TOO_LARGE);
            }
            self.scanned += 1;
            if self.is_end(byte, limits)? {
                return Ok(Some(self.scanned));
            }
        }
        Ok(None)
    }

    /// Whether `byte` ends the head.
    fn is_end(&mut self, byte: u8, limits: &Limits) -> Result<bool, HttpError> {
        match (self.after_cr, byte) {
            (true, b'\n') => return Ok(self.end_line()),
            (true, _) => return Err(HttpError::bad("A line has a CR that no LF follows")),
            (false, b'\n') => return Err(HttpError::bad("A line ends with LF alone")),
            (false, b'\r') => {
                self.after_cr = true;
                return Ok(false);
            }
            (false, b'\t' | b' ') if self.line == 0 => {
                return Err(HttpError::bad("A line starts with white space"));
            }
            (false, 0..=8 | 10..=31 | 127) => return Err(HttpError::bad("The head has a control character")),
            (false, _) => self.line += 1,
        }
        if self.lines == 0 {
            self.check_request_line(byte, limits)?;
        }
        Ok(false)
    }

    fn check_request_line(&mut self, byte: u8, limits: &Limits) -> Result<(), HttpError> {
        match byte {
            b' ' => self.spaces += 1,
            b'\t' | 128.. => return Err(BAD_REQUEST_LINE),
            _ if self.spaces == 1 => self.target += 1,
            _ => {}
        }
        if self.target > limits.max_url_bytes { Err(URL_TOO_LONG) } else { Ok(()) }
    }

    fn end_line(&mut self) -> bool {
        self.after_cr = false;
        let is_empty = self.line == 0;
        self.line = 0;
        if !is_empty {
            self.lines += 1;
        }
        is_empty && self.lines > 0
    }
}
