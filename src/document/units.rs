//! Durations, sizes and rates as people write them: `"30s"`, `"10mb"`, `"240b/s"`.

use std::fmt;
use std::num::NonZero;
use std::time::Duration;

/// Longer is a slip of the finger, and would overflow deadlines.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Reads `"500ms"`, `"30s"`, `"2m"`, `"1h"` or `"7d"`.
///
/// # Errors
/// A missing or unknown unit, a fraction, more than ten years.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text).ok_or(UnitError::Duration)?;
    let milliseconds = match unit.as_str() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(UnitError::Duration),
    };
    let duration = number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or(UnitError::TooLong)?;
    if duration > LONGEST {
        return Err(UnitError::TooLong);
    }
    Ok(duration)
}

/// Reads `"512b"`, `"8kb"`, `"10mb"` or `"1gb"`; a kb is 1024 bytes, however it is spelled (`k`, `KB`, `KiB`).
///
/// # Errors
/// A missing or unknown unit, a fraction, more than 2^63 bytes.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text).ok_or(UnitError::Size)?;
    let shift = match unit.as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(UnitError::Size),
    };
    number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes <= i64::MAX as u64)
        .ok_or(UnitError::TooLarge)
}

/// Reads `"240b/s"`: a [`size`] for each second, and not nothing.
///
/// # Errors
/// No `/s` behind a size, or 0.
pub fn rate(text: &str) -> Result<NonZero<u64>, UnitError> {
    let each = text.strip_suffix("/s").ok_or(UnitError::Rate)?;
    let bytes = size(each.trim_end()).map_err(|_| UnitError::Rate)?;
    NonZero::new(bytes).ok_or(UnitError::Rate)
}

/// A size as a file would have it.
#[derive(Clone, Copy, Debug)]
pub struct SizeText(pub usize);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % 1024 == 0 => write!(f, "{}kb", bytes / 1024),
            bytes => write!(f, "{bytes}b"),
        }
    }
}

/// Digits and a unit, with at most spaces between them.
fn split(text: &str) -> Option<(u64, String)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..unit_at].parse().ok()?;
    Some((number, text[unit_at..].trim_start().to_ascii_lowercase()))
}

/// Why a text is no duration, size or rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitError {
    Duration,
    TooLong,
    Size,
    TooLarge,
    Rate,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnitError::Duration => "a duration is a whole number and a unit: \"500ms\", \"30s\", \"2m\", \"1h\", \"7d\"",
            UnitError::TooLong => "longer than ten years",
            UnitError::Size => "a size is a whole number and a unit: \"512b\", \"8kb\", \"10mb\", \"1gb\"",
            UnitError::TooLarge => "larger than any size the system knows",
            UnitError::Rate => "a rate is a size for each second: \"240b/s\", \"1kb/s\"",
        })
    }
}

impl std::error::Error for UnitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
            ("30 s", 30_000),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in ["", "30", "s", "1.5s", "-1s", "30x", "30ss", "1h30m", "+3s"] {
            assert_eq!(duration(bad), Err(UnitError::Duration), "{bad}");
        }
        assert_eq!(duration("18446744073709551615d"), Err(UnitError::TooLong));
        assert_eq!(duration("3651d"), Err(UnitError::TooLong));
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [
            ("512b", 512),
            ("8kb", 8192),
            ("10MB", 10 << 20),
            ("1 GiB", 1 << 30),
            ("0b", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "10", "mb", "1.5mb", "10mbs"] {
            assert_eq!(size(bad), Err(UnitError::Size), "{bad}");
        }
        assert_eq!(size("18446744073709551615tb"), Err(UnitError::TooLarge));
    }

    #[test]
    fn rates_are_for_each_second() {
        assert_eq!(rate("240b/s"), Ok(NonZero::new(240).expect("not 0")));
        assert_eq!(rate("1 kb/s"), Ok(NonZero::new(1024).expect("not 0")));
        for bad in ["", "240", "240b", "0b/s", "240/s", "1kb/m"] {
            assert_eq!(rate(bad), Err(UnitError::Rate), "{bad}");
        }
    }
}
