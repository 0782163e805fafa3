//! A response: status, headers and body. Nothing is read from the body before [`crate::Request::respond`].

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::mpsc::Receiver;

use crate::header::{Header, is_engine_header};
use crate::message::StatusCode;

/// A response whose body is read while it is sent.
///
/// Only the engine sends `Connection`, `Date`, `Trailer`, `Transfer-Encoding` and `Upgrade`: adding one has no
/// effect. `Content-Length` sets [`Response::data_length`]. A second `Content-Type` replaces the first.
pub struct Response<R> {
    pub(crate) reader: R,
    pub(crate) status_code: StatusCode,
    pub(crate) headers: Vec<Header>,
    pub(crate) fields: Vec<Field>,
    pub(crate) data_length: Option<usize>,
    pub(crate) chunked_threshold: usize,
    pub(crate) retained_bytes: usize,
    pub(crate) additional_headers: Option<Receiver<Header>>,
}

/// Name and value of a header with a constant name.
pub type Field = (&'static str, Cow<'static, str>);

/// A [`Response`] with any body.
pub type ResponseBox = Response<Box<dyn Read + Send>>;

impl<R: Read> Response<R> {
    /// Creates a response. `data_length` is in bytes; without it the body is sent until it ends, in chunks to
    /// HTTP/1.1. Headers that are in `additional_headers` when the response is sent are added.
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
            retained_bytes: 0,
            additional_headers,
        };
        for header in headers {
            response.add_header(header);
        }
        response
    }

    /// Sends a body of at least `length` bytes in chunks although its length is known. By default a body of a known
    /// length is sent with `Content-Length`.
    pub fn with_chunked_threshold(mut self, length: usize) -> Response<R> {
        self.chunked_threshold = length;
        self
    }

    /// Declares how many bytes of memory the body uses while the response waits for its client. They count against
    /// [`crate::Limits::max_unsent_bytes`], unless the body is short enough to be read at once. Not in the published
    /// crate.
    pub fn with_retained_bytes(mut self, bytes: usize) -> Response<R> {
        self.retained_bytes = bytes;
        self
    }

    /// Adds headers without the allocations of a [`Header`]. `Content-Length` and the headers that only the engine
    /// sends have no effect here, and `Content-Type` replaces no other. If one is invalid,
    /// [`crate::Request::respond`] fails. Not in the published crate.
    pub fn with_fields(mut self, fields: Vec<Field>) -> Response<R> {
        self.fields.extend(fields);
        self
    }

    /// Adds a header. [`Response`] lists those that are treated specially.
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
            _ if is_engine_header(name) => {}
            12 if is("content-type") => match self.headers.iter_mut().find(|own| own.field == header.field) {
                Some(own) => own.value = header.value,
                None => self.headers.push(header),
            },
            _ => self.headers.push(header),
        }
    }

    /// Adds a header; see [`Response::add_header`].
    pub fn with_header<H: Into<Header>>(mut self, header: H) -> Response<R> {
        self.add_header(header);
        self
    }

    /// Sets the status.
    pub fn with_status_code<S: Into<StatusCode>>(mut self, code: S) -> Response<R> {
        self.status_code = code.into();
        self
    }

    /// Replaces the body by one of `data_length` bytes.
    pub fn with_data<S: Read>(self, reader: S, data_length: Option<usize>) -> Response<S> {
        Response {
            reader,
            data_length,
            status_code: self.status_code,
            headers: self.headers,
            fields: self.fields,
            chunked_threshold: self.chunked_threshold,
            retained_bytes: self.retained_bytes,
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

    /// The headers.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The body.
    pub fn into_reader(self) -> R {
        self.reader
    }
}

impl<R: Read + Send + 'static> Response<R> {
    /// Boxes the body.
    pub fn boxed(self) -> ResponseBox {
        Response {
            reader: Box::new(self.reader),
            status_code: self.status_code,
            headers: self.headers,
            fields: self.fields,
            data_length: self.data_length,
            chunked_threshold: self.chunked_threshold,
            retained_bytes: self.retained_bytes,
            additional_headers: self.additional_headers,
        }
    }
}

impl Response<File> {
    /// A response with the content of a file, and its length if the file system knows it.
    pub fn from_file(file: File) -> Response<File> {
        let length = file.metadata().ok().and_then(|metadata| usize::try_from(metadata.len()).ok());
        Response::new(StatusCode(200), Vec::new(), file, length, None)
    }
}

impl Response<Cursor<Vec<u8>>> {
    /// A response with bytes, without a `Content-Type`.
    pub fn from_data<D: Into<Vec<u8>>>(data: D) -> Response<Cursor<Vec<u8>>> {
        let data = data.into();
        let length = data.len();
        Response::new(StatusCode(200), Vec::new(), Cursor::new(data), Some(length), None)
    }

    /// A response with text, as `text/plain; charset=UTF-8`.
    pub fn from_string<S: Into<String>>(data: S) -> Response<Cursor<Vec<u8>>> {
        let content_type = Header::from_bytes("Content-Type", "text/plain; charset=UTF-8")
            .expect("a token and visible ASCII make a header");
        Response::from_data(data.into()).with_header(content_type)
    }
}

impl Response<io::Empty> {
    /// A response without a body.
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
            retained_bytes: self.retained_bytes,
            additional_headers: None,
        }
    }
}
