//! Trace context: the trace id of a `traceparent` header (W3C Trace Context, Level 2, section 3.2).
//!
//! Only the log uses it: the server starts no spans and does not forward the header.

/// The trace id of a `traceparent` header: 32 lower-case hexadecimal digits, not all zero. `None` where the header is
/// malformed.
pub fn trace_id(header: &str) -> Option<&str> {
    let mut fields = header.split('-');
    let mut field = |digits| fields.next().filter(|field| is_hex(field, digits));
    let (version, trace_id, parent_id, _flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    // Later versions may add fields; ff is not a version.
    let is_known = version != "ff" && (version != "00" || fields.next().is_none());
    let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
    (is_known && !is_zero(trace_id) && !is_zero(parent_id)).then_some(trace_id)
}

/// Whether `field` has exactly this many digits, all lower-case hexadecimal.
fn is_hex(field: &str, digits: usize) -> bool {
    field.len() == digits && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn trace_id_when_the_header_is_well_formed_is_its_second_field() {
        for header in [
            format!("00-{ID}-00f067aa0ba902b7-01"),
            format!("00-{ID}-00f067aa0ba902b7-00"),
            format!("01-{ID}-00f067aa0ba902b7-01"),
            format!("cc-{ID}-00f067aa0ba902b7-01-what-the-future-brings"),
        ] {
            assert_eq!(trace_id(&header), Some(ID), "{header}");
        }
        let small = "00-00000000000000000000000000000001-0000000000000001-01";
        assert_eq!(trace_id(small), Some("00000000000000000000000000000001"));
    }

    #[test]
    fn trace_id_when_the_header_is_malformed_is_none() {
        for header in [
            "",
            "-",
            ID,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            assert_eq!(trace_id(header), None, "{header:?}");
        }
    }
}
