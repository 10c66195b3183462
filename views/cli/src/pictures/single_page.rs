//! The page with its data in it: one file that needs nothing else and asks nobody.

use std::io::Write;

use anyhow::{Context, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::WEB_PAGE;

/// Where the data go in the page.
const PLACE: &str = "<script id=\"data\" type=\"application/octet-stream\"></script>";
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The file. Nothing in the data can end the element that they are in: they are compressed, and digits of base 64.
///
/// # Errors
/// What compression gives.
pub fn single_page(data: &[u8]) -> anyhow::Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).context("cannot compress the data")?;
    let compressed = encoder.finish().context("cannot compress the data")?;
    ensure!(WEB_PAGE.matches(PLACE).count() == 1, "the embedded page has no place for data: run `cargo xtask web`");
    let filled = format!("<script id=\"data\" type=\"application/octet-stream\">{}</script>", base64(&compressed));
    // It has nobody to ask.
    Ok(WEB_PAGE.replacen(PLACE, &filled, 1).replacen("connect-src 'self'", "connect-src 'none'", 1))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, place| bits << 8 | u32::from(group.get(place).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let check = |text: &str, expected: &str| assert_eq!(base64(text.as_bytes()), expected);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foobar", "Zm9vYmFy");
    }
}
