//! A decimal number as a literal that is stored in as many digits as the number was.
//!
//! Servers store a decimal in some digits before its point and some behind it, and a calculated one may have more before it than its
//! text shows, filled with zeros, or none. A client can see that in one place: the width of a parameter that has the value. So MariaDB
//! is asked for that width ([`text_of_width`]).
//!
//! A literal with zeros in front has them stored up to nine digits; a CAST stores full words of nine.

/// Digits of a word in which servers store decimals.
const WORD: usize = 9;

/// Digits of the longest decimal.
const DIGITS_MAX: usize = 65;

/// The decimal `text`, such as `-12.50`, so that as a parameter it has this width: a sign, its digits, and a point where there are any
/// behind it. As it is where that cannot be had.
pub fn text_of_width(text: &[u8], width: usize) -> Vec<u8> {
    let (sign, digits) = text.strip_prefix(b"-").map_or((&b""[..], text), |digits| (&b"-"[..], digits));
    let (whole, fraction) = match digits.iter().position(|&byte| byte == b'.') {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &b""[..]),
    };
    let scale = fraction.len();
    let stored = width.checked_sub(1 + scale + usize::from(scale > 0));
    let literal = |whole: &[u8]| [sign, whole, b".", fraction].concat();
    match stored {
        Some(0) if whole == b"0" && scale > 0 => literal(b""),
        Some(stored) if stored > whole.len() && stored % WORD == 0 && stored + scale <= DIGITS_MAX => {
            let cast = format!(" AS DECIMAL({},{scale}))", stored + scale);
            [b"CAST(", &literal(whole)[..], cast.as_bytes()].concat()
        }
        Some(stored) if stored > whole.len() && stored < WORD => {
            let zeros = vec![b'0'; stored - whole.len()];
            literal(&[&zeros, whole].concat())
        }
        // Without a point it would be an integer.
        _ => literal(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts and widths as MariaDB 10.11 tells them, and what gives the same there.
    #[test]
    fn a_decimal_is_stored_in_as_many_digits_again() {
        for (text, width, expected) in [
            ("12.5000000000", 14, "12.5000000000"),
            ("12.5000000000", 21, "CAST(12.5000000000 AS DECIMAL(19,10))"),
            ("12345678901.000", 23, "CAST(12345678901.000 AS DECIMAL(21,3))"),
            ("0.333333333", 11, ".333333333"),
            ("-0.333333333", 11, "-.333333333"),
            ("0.333333333", 12, "0.333333333"),
            ("7.5", 6, "007.5"),
            ("-7.5", 6, "-007.5"),
            ("5", 2, "5."),
            ("5", 10, "CAST(5. AS DECIMAL(9,0))"),
            ("-0.00", 13, "CAST(-0.00 AS DECIMAL(11,2))"),
            // What no server would say.
            ("5", 0, "5."),
            ("5", 80, "5."),
            ("1234567890.5", 13, "1234567890.5"),
            ("1234567890.5", 14, "1234567890.5"),
        ] {
            let literal = text_of_width(text.as_bytes(), width);
            assert_eq!(String::from_utf8_lossy(&literal), expected, "{text} {width}");
        }
    }
}
