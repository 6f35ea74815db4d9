//! However a chunked body is cut, it is the same body, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onedoor::http::h1::chunk::{BadChunk, ChunkDecoder};

fuzz_target!(|bytes: &[u8]| any_cut_decodes_alike(bytes));

fn any_cut_decodes_alike(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1));
    for size in [1, 2, 3, 7, 16] {
        assert_eq!(decode(bytes, size), whole, "in pieces of {size}: {}", bytes.escape_ascii());
    }
    if let Ok((payload, consumed, true)) = whole {
        let mut anew = Vec::new();
        if !payload.is_empty() {
            anew.extend_from_slice(format!("{:x}\r\n", payload.len()).as_bytes());
            anew.extend_from_slice(&payload);
            anew.extend_from_slice(b"\r\n");
        }
        anew.extend_from_slice(b"0\r\n");
        let length = anew.len();
        assert_eq!(decode(&anew, length), Ok((payload, length, true)));
        assert_eq!(decode(&bytes[..consumed], consumed).map(|decoded| decoded.1), Ok(consumed));
    }
}

/// Payload, bytes used, and whether the last chunk came, when the bytes arrive in pieces of `size`.
fn decode(bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
    let mut decoder = ChunkDecoder::new(16 << 10);
    let (mut payload, mut used) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece)?;
        payload.extend_from_slice(&piece[decoded.payload]);
        used += decoded.consumed;
        if decoded.last {
            return Ok((payload, used, true));
        }
        assert_eq!(decoded.consumed, piece.len());
    }
    Ok((payload, used, false))
}
