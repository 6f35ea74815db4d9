//! Any text is a site or a list of errors that can be drawn; nothing panics, nothing hangs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onedoor::site::file::{Rules, read};
use onedoor::site::{SiteDocument, SiteName};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = onedoor::site::directory::decode(bytes.to_vec()) else { return };
    let document = SiteDocument {
        name: SiteName::new("shop"),
        text,
        origin: "sites.d/shop.toml".into(),
        real: "sites.d/shop.toml".into(),
    };
    match read(&document, &Rules::default()) {
        Ok(accepted) => {
            assert!(!accepted.site.claims.is_empty());
            let _place = accepted.site.place(b"/a/%62");
        }
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.is_error()));
            for problem in &problems {
                assert!(!problem.render(&document.text, true).is_empty());
                assert!(!problem.to_string().contains('\n'));
            }
        }
    }
});
