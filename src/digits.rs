//! Numbers, times and addresses as text, digits all at once: each is one check for room and a store of a size that the
//! compiler knows. They are written for every request.

use std::net::{IpAddr, Ipv4Addr};

/// `127.0.0.1`, also of an address of IPv6 that stands for it.
#[inline]
pub fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let (text, end) = dotted(ip);
            // All but the last dot.
            out.extend_from_slice(&text);
            out.truncate(out.len() + end - 1 - text.len());
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

/// `127.0.0.1:5000`.
#[inline]
pub fn put_address(out: &mut Vec<u8>, ip: Ipv4Addr, port: u16) {
    let (digits, end) = dotted(ip);
    let mut text = [0; 24];
    text[..16].copy_from_slice(&digits);
    text[end - 1] = b':';
    let (digits, length) = eight_at_most(u32::from(port));
    text[end..end + 8].copy_from_slice(&digits);
    out.extend_from_slice(&text);
    out.truncate(out.len() + end + length - text.len());
}

/// `127.0.0.1.`, and how long that is.
#[inline]
fn dotted(ip: Ipv4Addr) -> ([u8; 16], usize) {
    let mut text = [0; 16];
    let mut end = 0;
    for octet in ip.octets() {
        let (digits, length) = OCTETS[usize::from(octet)];
        text[end..end + 4].copy_from_slice(&digits);
        end += usize::from(length);
    }
    (text, end)
}

/// `127.`, and how long that is.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut number = 0;
    while number < 256 {
        let digits = [number / 100, number / 10 % 10, number % 10];
        let mut at = if number > 99 {
            0
        } else if number > 9 {
            1
        } else {
            2
        };
        let (mut text, mut length) = ([b'.'; 4], 1);
        while at < 3 {
            text[length - 1] = b'0' + digits[at] as u8;
            length += 1;
            at += 1;
        }
        octets[number] = (text, length as u8);
        number += 1;
    }
    octets
};

/// Any number.
#[inline]
pub fn put_number(out: &mut Vec<u8>, number: u64) {
    match u32::try_from(number) {
        Ok(small) if small < HUNDRED_MILLIONS => {
            let (text, length) = eight_at_most(small);
            out.extend_from_slice(&text);
            out.truncate(out.len() + length - text.len());
        }
        _ => put_large(out, number),
    }
}

/// The digits of a number below 100,000,000 without zeros in front, and how many they are.
#[inline]
fn eight_at_most(number: u32) -> ([u8; 8], usize) {
    let digits = eight_digits(number);
    // The last one stays, also of 0.
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let text = (digits >> (8 * zeros)) | ZEROS;
    (text.to_le_bytes(), 8 - zeros as usize)
}

/// The three digits of a number below 1,000.
#[inline]
pub fn three_digits(number: u16) -> [u8; 3] {
    let [.., hundreds, tens, ones] = (eight_digits(u32::from(number)) | ZEROS).to_le_bytes();
    [hundreds, tens, ones]
}

#[cold]
fn put_large(out: &mut Vec<u8>, number: u64) {
    let most = u64::from(HUNDRED_MILLIONS);
    put_number(out, number / most);
    let rest = eight_digits((number % most) as u32) | ZEROS;
    out.extend_from_slice(&rest.to_le_bytes());
}

/// `0.001234`: seconds with microseconds.
#[inline]
pub fn put_seconds(out: &mut Vec<u8>, micros: u64) {
    let (seconds, micros) = (micros / 1_000_000, (micros % 1_000_000) as u32);
    // Of eight digits the first two are none: `0.` stands in their place.
    let text = (eight_digits(micros) + DOTTED_ZEROS).to_le_bytes();
    if seconds == 0 {
        out.extend_from_slice(&text);
    } else {
        put_number(out, seconds);
        out.extend_from_slice(&text[1..]);
    }
}

/// `0.001234` of what is less than a second.
#[inline]
pub fn part_of_second(micros: u64) -> [u8; 8] {
    (eight_digits(micros as u32) + DOTTED_ZEROS).to_le_bytes()
}

/// The six digits of what is left of a second.
#[inline]
pub fn six_digits(micros: u32) -> [u8; 6] {
    let [_, _, text @ ..] = (eight_digits(micros) | ZEROS).to_le_bytes();
    text
}

const HUNDRED_MILLIONS: u32 = 100_000_000;
/// `00000000` and `0.000000`, the first character in the lowest byte.
const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
const DOTTED_ZEROS: u64 = u64::from_le_bytes(*b"0.000000");

/// The digits of a number below 100,000,000 as numbers, a byte each, the first of them in the lowest byte: cut into
/// fours, twos and ones, each time all parts at once, with a division by multiplying.
#[inline]
fn eight_digits(number: u32) -> u64 {
    let number = u64::from(number);
    let fours = number / 10_000 + ((number % 10_000) << 32);
    // x / 100 for x < 10,000 in the low half of each 32 bits.
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds + ((fours - hundreds * 100) << 16);
    // x / 10 for x < 100 in the low half of each 16 bits.
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens + ((twos - tens * 10) << 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn every_number_of_four_digits_is_written_as_it_is_on_either_side() {
        for number in 0..10_000u32 {
            let both = number * 10_000 + number;
            let text = (eight_digits(both) | ZEROS).to_le_bytes();
            assert_eq!(text, format!("{both:08}").as_bytes());
            assert_eq!(six_digits(number), format!("{number:06}").as_bytes());
            if let Ok(number @ 0..1_000) = u16::try_from(number) {
                assert_eq!(three_digits(number), format!("{number:03}").as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_and_seconds_are_written_as_everybody_does(number: u64, small in 0..3_000_000u64) {
            for number in [number, small, number >> 32, number >> 40] {
                prop_assert_eq!(written(|out| put_number(out, number)), number.to_string());
                let seconds = format!("{}.{:06}", number / 1_000_000, number % 1_000_000);
                prop_assert_eq!(written(|out| put_seconds(out, number)), seconds);
            }
        }

        #[test]
        fn addresses_are_written_as_everybody_does(four: [u8; 4], six: [u16; 8], port: u16) {
            let address = std::net::SocketAddrV4::new(four.into(), port);
            prop_assert_eq!(written(|out| put_address(out, *address.ip(), port)), address.to_string());
            for ip in [IpAddr::from(four), IpAddr::from(six)] {
                prop_assert_eq!(written(|out| put_ip(out, ip)), ip.to_string());
            }
        }
    }
}
