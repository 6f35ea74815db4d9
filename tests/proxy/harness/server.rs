//! Servers of somebody else: nginx, Node, Python.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::wait::until;

/// A running one, ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts it and waits until it listens on `port`.
    pub(crate) fn start(command: &mut Command, port: u16) -> Server {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Server { child, port };
        until(&format!("{command:?} listens"), || {
            assert!(
                server.child.try_wait().unwrap().is_none(),
                "{command:?} ended"
            );
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
