//! Whatever a client sends as Host is read the same way twice, and like what an operator may claim.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onedoor::site::hostname::{HostBuffer, HostPattern, Hostname, authority};

fuzz_target!(|bytes: &[u8]| {
    let mut buffer = HostBuffer::new();
    if let Ok(read) = authority(bytes, &mut buffer) {
        assert!(read.host.len() <= 253 && !read.host.is_empty());
        assert!(!read.host.bytes().any(|b| b.is_ascii_uppercase()));
        if !read.host.contains(':') {
            let mut again = HostBuffer::new();
            assert_eq!(authority(read.host.as_bytes(), &mut again).map(|a| a.host.to_owned()).as_deref(), Ok(read.host));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = Hostname::parse(text) {
        let asked = if name.as_str().contains(':') { format!("[{name}]:80") } else { format!("{name}.:80") };
        let mut again = HostBuffer::new();
        assert_eq!(authority(asked.as_bytes(), &mut again).map(|a| a.host), Ok(name.as_str()));
        assert_eq!(Hostname::parse(name.as_str()).as_ref(), Ok(&name));
    }
    if let Ok(pattern) = HostPattern::parse(text) {
        assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern));
    }
});
