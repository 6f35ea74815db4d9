//! A request that its app has and does not answer: for what happens meanwhile.

use super::{Backend, Client, Proxy};

pub(crate) struct UnderWay {
    pub(crate) proxy: Proxy,
    /// Waits for its response.
    pub(crate) client: Client,
    /// Silent, as long as it is there.
    pub(crate) app: Backend,
}

/// Somebody has asked `slow.test`, of the site `slow`.
#[track_caller]
pub(crate) fn under_way() -> UnderWay {
    let app = Backend::silent();
    let site = format!("host = 'slow.test'\nto = {}\n", app.port);
    let proxy = Proxy::plan().site("slow.toml", site).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n");
    app.until_requests(1);
    UnderWay { proxy, client, app }
}
