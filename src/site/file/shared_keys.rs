//! The keys that `[defaults]` of the daemon file has too: each is read over a base.

use std::time::Duration;

use super::{inner, read_network};
use crate::document::units;
use crate::document::{Reader, Table};
use crate::limits::{ALLOW_NETWORKS, SiteLimits, SiteTimeouts};
use crate::site::hostname::{Hostname, HostnameError};
use crate::site::{Allow, DrainPolicy, SendHost, SendProxy};

pub(crate) fn read_limits(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &SiteLimits,
) -> SiteLimits {
    let Some(limit) = inner(table, "limit") else {
        return base.clone();
    };
    SiteLimits {
        body_bytes: reader.size_or_off(limit, "body").unwrap_or(base.body_bytes),
        min_rate: reader
            .rate_or_off(limit, "min_rate")
            .unwrap_or(base.min_rate),
        connections: count(reader, limit, "connections").or(base.connections),
        connecting: count(reader, limit, "connecting").unwrap_or(base.connecting),
        queue: count(reader, limit, "queue").unwrap_or(base.queue),
    }
}

fn count(reader: &mut Reader<'_>, limit: &Table<'_>, name: &str) -> Option<usize> {
    let count = reader.count(limit, name, 1..=u64::MAX)?;
    usize::try_from(count).ok()
}

pub(crate) fn read_timeouts(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &SiteTimeouts,
) -> SiteTimeouts {
    let Some(timeout) = inner(table, "timeout") else {
        return base.clone();
    };
    SiteTimeouts {
        connect: reader.duration(timeout, "connect").unwrap_or(base.connect),
        queue: reader.duration(timeout, "queue").unwrap_or(base.queue),
        first_byte: reader
            .duration(timeout, "first_byte")
            .unwrap_or(base.first_byte),
        idle: reader.duration(timeout, "idle").unwrap_or(base.idle),
        grace: reader.duration(timeout, "grace").unwrap_or(base.grace),
        websocket_idle: reader
            .duration_or_off(timeout, "websocket_idle")
            .unwrap_or(base.websocket_idle),
        passthrough_idle: reader
            .duration_or_off(timeout, "passthrough_idle")
            .unwrap_or(base.passthrough_idle),
        total: reader
            .duration_or_off(timeout, "total")
            .unwrap_or(base.total),
        pool_idle: reader
            .duration(timeout, "pool_idle")
            .unwrap_or(base.pool_idle),
    }
}

pub(crate) fn read_drain(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &DrainPolicy,
) -> DrainPolicy {
    match inner(table, "drain") {
        None => DrainPolicy {
            remove: drain_time(reader, table, "drain").unwrap_or(base.remove),
            ..*base
        },
        Some(drain) => DrainPolicy {
            edit: match reader.text(drain, "edit") {
                None => base.edit,
                Some(("never", _)) => None,
                Some(_) => drain_time(reader, drain, "edit").or(base.edit),
            },
            remove: drain_time(reader, drain, "remove").unwrap_or(base.remove),
        },
    }
}

/// Unlike other durations this may be zero: cut at once.
pub(super) fn drain_time(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    name: &str,
) -> Option<Duration> {
    let (text, span) = reader.text(table, name)?;
    reader.unit(text, &span, units::duration)
}

pub(crate) fn read_send_host(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &SendHost,
) -> SendHost {
    match reader.text(table, "send_host") {
        None => base.clone(),
        Some(("keep", _)) => SendHost::Keep,
        Some(("backend", _)) => SendHost::Backend,
        Some((text, span)) => match read_host_field(text) {
            Ok(name) => SendHost::Name(name),
            Err(error) => {
                reader.error(
                    span,
                    format!("{text:?} is neither \"keep\" nor \"backend\" nor a name: {error}"),
                );
                base.clone()
            }
        },
    }
}

pub(crate) fn read_send_proxy(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: Option<SendProxy>,
) -> Option<SendProxy> {
    match reader.text(table, "send_proxy") {
        None => base,
        Some(("v1", _)) => Some(SendProxy::V1),
        Some(("v2", _)) => Some(SendProxy::V2),
        Some(("off", _)) => None,
        Some((text, span)) => {
            let message = format!("{text:?} is none of \"v1\", \"v2\" and \"off\"");
            reader.error(span, message);
            base
        }
    }
}

pub(crate) fn read_allow(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Allow> {
    let networks = reader.texts(table, "allow")?;
    if networks.is_empty()
        && let Some(value) = table.get("allow")
    {
        reader.error(
            value.span(),
            "\"allow\" is an empty list, so nobody could ask",
        );
    }
    let most = (ALLOW_NETWORKS, "networks in allow");
    let networks = reader.at_most(networks, 0, most, |(_, span)| span.clone());
    let read = networks
        .into_iter()
        .filter_map(|(text, span)| read_network(reader, text, span));
    Some(Allow(read.collect()))
}

/// A name, perhaps with a port, as it stands in a Host field.
pub(super) fn read_host_field(text: &str) -> Result<Box<str>, HostnameError> {
    let digits =
        |port: &str| !port.is_empty() && port.parse::<u16>().is_ok() && !port.starts_with('+');
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if digits(port) && (!name.contains(':') || name.ends_with(']')) => {
            (name, Some(port))
        }
        _ => (text, None),
    };
    let name = Hostname::parse(name)?;
    let name = if name.as_str().contains(':') {
        format!("[{name}]")
    } else {
        name.to_string()
    };
    Ok(port
        .map_or(name.clone(), |port| format!("{name}:{port}"))
        .into())
}
