//! Each limit crossed once.

use crate::harness::{Backend, Plan, Proxy};

mod client;
mod descriptors;
mod number;
mod site;
mod size;
pub(crate) mod time;

fn with_limits(daemon_file: &str, app: &Backend) -> Proxy {
    Proxy::plan()
        .daemon_file(daemon_file)
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start()
}

fn with_site(app: u16, more: &str) -> Plan {
    Proxy::plan().site("app.toml", format!("host = 'app.test'\nto = {app}\n{more}"))
}
