/// The values of a header, of every line and between commas, as far as they are
/// text.
pub(super) fn values<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    let lines = request.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    lines.flat_map(|line| str::from_utf8(line.value).unwrap_or("?").split(',')).map(str::trim_ascii)
}
