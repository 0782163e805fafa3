//! What the program answers with.
//!
//! Plain values: nothing is read from the body before [`crate::Request::respond`].

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::mpsc::Receiver;

use crate::header::{Header, is_the_engines};
use crate::message::StatusCode;

/// An answer: status, headers, and a body that is read as the client takes it.
///
/// `Connection`, `Date`, `Trailer`, `Transfer-Encoding` and `Upgrade` are the engine's: adding one has no effect. `Content-Length`
/// sets [`Response::data_length`]. A second `Content-Type` takes the place of the first.
pub struct Response<R> {
    pub(crate) reader: R,
    pub(crate) status_code: StatusCode,
    pub(crate) headers: Vec<Header>,
    pub(crate) fields: Vec<Field>,
    pub(crate) data_length: Option<usize>,
    pub(crate) chunked_threshold: usize,
    pub(crate) held_bytes: usize,
    pub(crate) additional_headers: Option<Receiver<Header>>,
}

/// Name and value of a header whose name is known beforehand.
pub type Field = (&'static str, Cow<'static, str>);

/// A [`Response`] whatever its body.
pub type ResponseBox = Response<Box<dyn Read + Send>>;

impl<R: Read> Response<R> {
    /// An answer of these parts. `data_length` is in bytes; without it the body is sent until it ends, in chunks where the
    /// client knows them. Headers that wait in `additional_headers` when the answer is sent go with it.
    pub fn new(
        status_code: StatusCode,
        headers: Vec<Header>,
        data: R,
        data_length: Option<usize>,
        additional_headers: Option<Receiver<Header>>,
    ) -> Response<R> {
        let mut response = Response {
            reader: data,
            status_code,
            headers: Vec::with_capacity(headers.len()),
            fields: Vec::new(),
            data_length,
            chunked_threshold: usize::MAX,
            held_bytes: 0,
            additional_headers,
        };
        for header in headers {
            response.add_header(header);
        }
        response
    }

    /// Sends a body of at least `length` bytes in chunks although its length is known. By default a known length is
    /// always sent as `Content-Length`.
    pub fn with_chunked_threshold(mut self, length: usize) -> Response<R> {
        self.chunked_threshold = length;
        self
    }

    /// Says how much memory the body takes, in bytes, while the answer waits for its client. It counts against
    /// [`crate::Limits::max_unsent_bytes`], unless the body is so short that it is read at once. Not in the published crate.
    pub fn with_held_bytes(mut self, bytes: usize) -> Response<R> {
        self.held_bytes = bytes;
        self
    }

    /// Adds headers that are copied into the answer as they are, and nowhere else: a [`Header`] owns its name and its value. Those
    /// that are the engine's, `Content-Length` among them, have no effect here; a `Content-Type` takes no other's place; where one
    /// cannot be sent, [`crate::Request::respond`] fails. Not in the published crate.
    pub fn with_fields(mut self, fields: Vec<Field>) -> Response<R> {
        self.fields.extend(fields);
        self
    }

    /// Adds a header; see [`Response`] for those with a meaning of their own.
    pub fn add_header<H: Into<Header>>(&mut self, header: H) {
        let header = header.into();
        let name = header.field.as_str().as_str();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            14 if is("content-length") => {
                if let Ok(length) = header.value.as_str().parse() {
                    self.data_length = Some(length);
                }
            }
            _ if is_the_engines(name) => {}
            12 if is("content-type") => match self.headers.iter_mut().find(|own| own.field == header.field) {
                Some(own) => own.value = header.value,
                None => self.headers.push(header),
            },
            _ => self.headers.push(header),
        }
    }

    /// The same with one header more.
    pub fn with_header<H: Into<Header>>(mut self, header: H) -> Response<R> {
        self.add_header(header);
        self
    }

    /// The same with another status.
    pub fn with_status_code<S: Into<StatusCode>>(mut self, code: S) -> Response<R> {
        self.status_code = code.into();
        self
    }

    /// The same with another body of `data_length` bytes.
    pub fn with_data<S: Read>(self, reader: S, data_length: Option<usize>) -> Response<S> {
        Response {
            reader,
            data_length,
            status_code: self.status_code,
            headers: self.headers,
            fields: self.fields,
            chunked_threshold: self.chunked_threshold,
            held_bytes: self.held_bytes,
            additional_headers: self.additional_headers,
        }
    }

    /// The status code.
    pub fn status_code(&self) -> StatusCode {
        self.status_code
    }

    /// The length of the body in bytes, if it is known.
    pub fn data_length(&self) -> Option<usize> {
        self.data_length
    }

    /// The headers so far.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The body.
    pub fn into_reader(self) -> R {
        self.reader
    }
}

impl<R: Read + Send + 'static> Response<R> {
    /// The same as a [`ResponseBox`].
    pub fn boxed(self) -> ResponseBox {
        Response {
            reader: Box::new(self.reader),
            status_code: self.status_code,
            headers: self.headers,
            fields: self.fields,
            data_length: self.data_length,
            chunked_threshold: self.chunked_threshold,
            held_bytes: self.held_bytes,
            additional_headers: self.additional_headers,
        }
    }
}

impl Response<File> {
    /// A file, with its length if the file system knows it.
    pub fn from_file(file: File) -> Response<File> {
        let length = file.metadata().ok().and_then(|metadata| usize::try_from(metadata.len()).ok());
        Response::new(StatusCode(200), Vec::new(), file, length, None)
    }
}

impl Response<Cursor<Vec<u8>>> {
    /// Bytes, without a `Content-Type`.
    pub fn from_data<D: Into<Vec<u8>>>(data: D) -> Response<Cursor<Vec<u8>>> {
        let data = data.into();
        let length = data.len();
        Response::new(StatusCode(200), Vec::new(), Cursor::new(data), Some(length), None)
    }

    /// Text, as `text/plain; charset=UTF-8`.
    pub fn from_string<S: Into<String>>(data: S) -> Response<Cursor<Vec<u8>>> {
        let content_type = Header::from_bytes("Content-Type", "text/plain; charset=UTF-8")
            .expect("a token and visible ASCII make a header");
        Response::from_data(data.into()).with_header(content_type)
    }
}

impl Response<io::Empty> {
    /// No body.
    pub fn empty<S: Into<StatusCode>>(status_code: S) -> Response<io::Empty> {
        Response::new(status_code.into(), Vec::new(), io::empty(), Some(0), None)
    }
}

impl Clone for Response<io::Empty> {
    fn clone(&self) -> Response<io::Empty> {
        Response {
            reader: io::empty(),
            status_code: self.status_code,
            headers: self.headers.clone(),
            fields: self.fields.clone(),
            data_length: self.data_length,
            chunked_threshold: self.chunked_threshold,
            held_bytes: self.held_bytes,
            additional_headers: None,
        }
    }
}
