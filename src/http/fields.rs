//! Access to the header fields of a parsed request head.

/// Returns the values of a field: of every line with this name, split at commas, without
/// whitespace around them (RFC 9110, section 5.3). A line that is not UTF-8 gives the value
/// `?`, which no caller accepts.
pub(super) fn values<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    let lines = request.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    lines.flat_map(|line| str::from_utf8(line.value).unwrap_or("?").split(',')).map(str::trim_ascii)
}
