//! What is counted, in Prometheus' text format. Labels are names that an operator chose, and words of ours: nothing that
//! a client sends makes a new series.

use std::fmt;
use std::fs;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit};

use super::About;
use crate::observe::{Counters, Protocol, Reason, SAMPLE, Stage};
use crate::reload::{Gauges, SiteGauges, State, seconds};
use crate::site::counts::BUCKETS_MS;

/// The content type of version 0.0.4.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything, as text.
pub(super) fn text(about: &About, gauges: Gauges) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        totals: Totals::read(about),
        gauges,
    }));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let written = prometheus_text::encode(&mut text, &registry);
    debug_assert!(written.is_ok());
    text
}

/// The sums over all workers, and what the system says of the process.
#[derive(Debug)]
struct Totals {
    /// By kind.
    open: [(&'static str, u64); 6],
    served: [(&'static str, u64); 4],
    tunnels_open: [(Protocol, u64); 3],
    connections: u64,
    handshakes: u64,
    tunnels: u64,
    aborted: u64,
    retries: u64,
    upstreams_opened: u64,
    upstreams_reused: u64,
    from_clients: u64,
    to_clients: u64,
    reasons: Vec<(&'static str, u64)>,
    log_lost: u64,
    descriptors: u64,
    most_descriptors: u64,
    resident_bytes: u64,
    cpu_seconds: f64,
    started: u64,
}

impl Totals {
    fn read(about: &About) -> Totals {
        let sum =
            |of: fn(&Counters) -> u64| -> u64 { about.counters.iter().map(|one| of(one)).sum() };
        let of_reason =
            |reason: Reason| -> u64 { about.counters.iter().map(|one| one.count(reason)).sum() };
        let now = |stage: Stage| -> u64 {
            let of = |one: &Arc<Counters>| {
                let (entered, left) = one.in_stage(stage);
                entered.saturating_sub(left)
            };
            about.counters.iter().map(of).sum()
        };
        let so_far = |stage: Stage| -> u64 {
            let counters = about.counters.iter();
            counters.map(|one| one.in_stage(stage).0).sum()
        };
        let (handshake, passthrough) = (now(Stage::Handshake), now(Stage::Passthrough));
        let (http1, http2, upgraded) = (now(Stage::Http1), now(Stage::Http2), now(Stage::Upgraded));
        // What it will be is not known yet.
        let known = handshake + passthrough + http1 + http2;
        let opening = super::answer::open(about).saturating_sub(known);
        Totals {
            open: [
                ("opening", opening),
                ("handshake", handshake),
                ("http1", http1.saturating_sub(upgraded)),
                ("http2", http2),
                ("upgraded", upgraded),
                ("passthrough", passthrough),
            ],
            served: [
                ("http1", so_far(Stage::Http1)),
                ("http2", so_far(Stage::Http2)),
                ("upgraded", so_far(Stage::Upgraded)),
                ("passthrough", so_far(Stage::Passthrough)),
            ],
            tunnels_open: [
                (Protocol::Http1, upgraded),
                (Protocol::Http2, now(Stage::UpgradedStream)),
                (Protocol::Other, passthrough),
            ],
            connections: sum(|one| one.connections.read()),
            handshakes: sum(|one| one.handshakes.read()),
            tunnels: sum(|one| one.tunnels.read()),
            aborted: sum(|one| one.aborted.read()),
            retries: sum(|one| one.retries.read()),
            upstreams_opened: sum(|one| one.opened.read()),
            upstreams_reused: sum(|one| one.reused.read()),
            from_clients: sum(|one| one.from_client.read()),
            to_clients: sum(|one| one.to_client.read()),
            reasons: Reason::ALL
                .into_iter()
                .map(|reason| (reason.code(), of_reason(reason)))
                .collect(),
            log_lost: about.access.lost().read(),
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64),
            most_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            resident_bytes: resident_bytes().unwrap_or_default(),
            cpu_seconds: cpu_seconds().unwrap_or_default(),
            started: seconds(about.started),
        }
    }
}

/// The second field of /proc/self/statm, in pages.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The fields utime and stime of /proc/self/stat, in ticks. Before them stands a name that may have anything in it, in
/// parentheses.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind_name) = text.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let all = ticks()? + ticks()?;
    Some(all as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[derive(Debug)]
struct Scrape {
    totals: Totals,
    gauges: Gauges,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        self.process(out)?;
        self.connections(out)?;
        self.sites(out)?;
        self.requests(out)?;
        self.backends(out)
    }
}

impl Scrape {
    fn process(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Totals {
            descriptors,
            most_descriptors,
            resident_bytes,
            cpu_seconds,
            started,
            ..
        } = self.totals;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut info = out.encode_descriptor(
            "onedoor_build_info",
            "Which version this is.",
            None,
            MetricType::Gauge,
        )?;
        info.encode_family(&version)?.encode_gauge(&1u64)?;
        gauge(
            out,
            "process_open_fds",
            "File descriptors that are open.",
            descriptors,
        )?;
        gauge(
            out,
            "process_max_fds",
            "File descriptors that may be open.",
            most_descriptors,
        )?;
        gauge(
            out,
            "process_resident_memory_bytes",
            "Memory in use.",
            resident_bytes,
        )?;
        out.encode_descriptor(
            "process_cpu_seconds",
            "Processor time of all threads.",
            None,
            MetricType::Counter,
        )?
        .encode_counter::<NoLabelSet, _, f64>(&cpu_seconds, None)?;
        gauge(
            out,
            "process_start_time_seconds",
            "When it started.",
            started,
        )
    }

    fn connections(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = &self.totals;
        let mut open = out.encode_descriptor(
            "onedoor_connections_open",
            "Client connections that are open, by what they are: an upgraded one is no longer http1.",
            None,
            MetricType::Gauge,
        )?;
        for (kind, count) in totals.open {
            open.encode_family(&[("kind", kind)])?
                .encode_gauge(&count)?;
        }
        let mut served = out.encode_descriptor(
            "onedoor_connections_served",
            "Client connections by what they became; an upgraded one was http1 before.",
            None,
            MetricType::Counter,
        )?;
        for (kind, count) in totals.served {
            put(&mut served, &[("kind", kind)], count)?;
        }
        let mut tunnels = out.encode_descriptor(
            "onedoor_tunnels_open",
            "Upgraded and passed through connections that are open, and upgraded streams of HTTP/2.",
            None,
            MetricType::Gauge,
        )?;
        for (protocol, count) in totals.tunnels_open {
            tunnels
                .encode_family(&[("protocol", protocol.word())])?
                .encode_gauge(&count)?;
        }
        for (name, help, value) in [
            (
                "onedoor_connections",
                "Client connections that were accepted.",
                totals.connections,
            ),
            (
                "onedoor_tls_handshakes",
                "TLS handshakes with clients that came to their end; those that did not are onedoor_refused.",
                totals.handshakes,
            ),
            (
                "onedoor_tunnels",
                "Upgraded and passed through connections that have ended.",
                totals.tunnels,
            ),
            (
                "onedoor_aborted",
                "Exchanges that broke off in their middle.",
                totals.aborted,
            ),
            (
                "onedoor_retries",
                "Upstreams that were tried in vain.",
                totals.retries,
            ),
            (
                "onedoor_access_log_lost",
                "Access log lines that were not taken in time.",
                totals.log_lost,
            ),
        ] {
            counter(out, name, help, value)?;
        }
        let mut bytes = out.encode_descriptor(
            "onedoor_bytes",
            "Bytes of bodies and tunnels, by direction.",
            None,
            MetricType::Counter,
        )?;
        put(
            &mut bytes,
            &[("direction", "from_client")],
            totals.from_clients,
        )?;
        put(&mut bytes, &[("direction", "to_client")], totals.to_clients)?;
        let mut upstreams = out.encode_descriptor(
            "onedoor_upstreams",
            "Connections to backends that requests went by: new ones, and ones that were there, idle or shared.",
            None,
            MetricType::Counter,
        )?;
        put(
            &mut upstreams,
            &[("kind", "reused")],
            totals.upstreams_reused,
        )?;
        put(
            &mut upstreams,
            &[("kind", "opened")],
            totals.upstreams_opened,
        )?;
        let mut refused = out.encode_descriptor(
            "onedoor_refused",
            "Answers of our own and connections that we ended, by what Onedoor-Reason says.",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in &totals.reasons {
            put(&mut refused, &[("reason", *reason)], *count)?;
        }
        Ok(())
    }

    fn sites(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut files = out.encode_descriptor(
            "onedoor_site_files",
            "Site files by their state.",
            None,
            MetricType::Gauge,
        )?;
        for state in State::ALL {
            let count = self.gauges.sites.iter().filter(|site| site.state == state);
            let count = count.count() as u64;
            files
                .encode_family(&[("state", state.word())])?
                .encode_gauge(&count)?;
        }
        gauge(
            out,
            "onedoor_sites_readable",
            "Whether the folder of site files can be seen; if not, what was there goes on being served.",
            u64::from(self.gauges.is_readable),
        )?;
        counter(
            out,
            "onedoor_reloads",
            "Route tables that were put in force.",
            self.gauges.reloads,
        )?;
        out.encode_descriptor(
            "onedoor_reload_seconds",
            "The same of all changes together: divided by onedoor_reloads_total, what one takes.",
            None,
            MetricType::Counter,
        )?
        .encode_counter::<NoLabelSet, _, f64>(&self.gauges.reloading.as_secs_f64(), None)?;
        gauge(
            out,
            "onedoor_reload_last_seconds",
            "From the last change that was noticed to its table in force.",
            self.gauges.last_reload.as_secs_f64(),
        )?;
        let mut ends = out.encode_descriptor(
            "onedoor_certificate_end_time_seconds",
            "When certificates end, or their intermediates, by one of their names.",
            None,
            MetricType::Gauge,
        )?;
        for (name, end) in &self.gauges.certificates {
            ends.encode_family(&[("name", name.as_str())])?
                .encode_gauge(&seconds(*end))?;
        }
        Ok(())
    }

    fn requests(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let busy = || {
            let sites = self.gauges.sites.iter();
            sites.filter(|site| site.answered.requests() > 0)
        };
        let mut requests = out.encode_descriptor(
            "onedoor_requests",
            "Requests that were answered, by site, class of status and protocol.",
            None,
            MetricType::Counter,
        )?;
        for site in &self.gauges.sites {
            for (protocol, classes) in Protocol::ALL.iter().zip(&site.answered.requests) {
                // From nothing to one is no rate: what everybody asks about is there before the first request.
                let is_told = |code: &str, count: u64| {
                    let is_usual = *protocol == Protocol::Http1 && USUAL_CODES.contains(&code);
                    count > 0 || is_usual
                };
                let classes = CODES.iter().zip(classes);
                for (code, count) in classes.filter(|(code, count)| is_told(code, **count)) {
                    let labels = [
                        ("site", site.name.as_str()),
                        ("code", code),
                        ("protocol", protocol.word()),
                    ];
                    put(&mut requests, &labels, *count)?;
                }
            }
        }
        let mut bytes = out.encode_descriptor(
            "onedoor_site_bytes",
            "Bytes of bodies and tunnels, by site and direction.",
            None,
            MetricType::Counter,
        )?;
        for site in busy() {
            for (direction, count) in [
                ("from_client", site.answered.from_client),
                ("to_client", site.answered.to_client),
            ] {
                put(
                    &mut bytes,
                    &[("site", site.name.as_str()), ("direction", direction)],
                    count,
                )?;
            }
        }
        let mut open = out.encode_descriptor(
            "onedoor_site_connections_open",
            "Client connections that are with the site.",
            None,
            MetricType::Gauge,
        )?;
        for site in busy() {
            open.encode_family(&[("site", site.name.as_str())])?
                .encode_gauge(&(site.connections as u64))?;
        }
        let help = format!("How long requests took, of a sample: one in {SAMPLE}.");
        let mut durations = out.encode_descriptor(
            "onedoor_request_duration_seconds",
            &help,
            None,
            MetricType::Histogram,
        )?;
        for site in busy() {
            put_durations(&mut durations, site)?;
        }
        Ok(())
    }

    fn backends(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut fit = out.encode_descriptor(
            "onedoor_backend_fit",
            "Whether a backend gets requests.",
            None,
            MetricType::Gauge,
        )?;
        for site in &self.gauges.sites {
            for backend in &site.backends {
                let labels = [("site", &*site.name), ("backend", &*backend.name)];
                fit.encode_family(&labels)?
                    .encode_gauge(&u64::from(backend.is_fit))?;
            }
        }
        let mut errors = out.encode_descriptor(
            "onedoor_backend_errors",
            "What was wrong with a backend, each time a request met with it: by what Onedoor-Reason says, and its answers from 500 on.",
            None,
            MetricType::Counter,
        )?;
        for site in &self.gauges.sites {
            for backend in &site.backends {
                for (fault, count) in &backend.faults {
                    let labels = [
                        ("site", &*site.name),
                        ("backend", &*backend.name),
                        ("reason", fault.code()),
                    ];
                    put(&mut errors, &labels, *count)?;
                }
            }
        }
        Ok(())
    }
}

/// By the class of a status; 0 is an exchange without a response.
const CODES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

const USUAL_CODES: [&str; 3] = ["2xx", "4xx", "5xx"];

fn put_durations(out: &mut MetricEncoder<'_>, site: &SiteGauges) -> fmt::Result {
    let counts = &site.answered.durations;
    let ends = BUCKETS_MS.iter().map(|end| *end as f64 / 1000.0);
    let buckets: Vec<(f64, u64)> = ends
        .chain([f64::INFINITY])
        .zip(counts.iter().copied())
        .collect();
    let sum = site.answered.duration_micros as f64 / 1_000_000.0;
    let count = counts.iter().sum();
    out.encode_family(&[("site", site.name.as_str())])?
        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn put(out: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: u64) -> fmt::Result {
    out.encode_family(&labels)?
        .encode_counter::<NoLabelSet, _, f64>(&value, None)
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, f64>(&value, None)
}

fn gauge<V: prometheus_client::encoding::EncodeGaugeValue>(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: V,
) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}
