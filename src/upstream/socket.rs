//! Why a unix socket takes no connection: what the system says in one word has several reasons, and each another cure.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// `error` of a connect to the socket at `path`, in words that help. Looks at the file, and at nothing else.
pub(super) fn explained(path: &Path, error: io::Error) -> io::Error {
    let kind = error.kind();
    let why = match (kind, fs::metadata(path)) {
        (io::ErrorKind::NotFound, _) => match path.parent().is_some_and(Path::is_dir) {
            true => "there is no such file; the app makes it when it listens".to_owned(),
            false => "its folder is not there".to_owned(),
        },
        (io::ErrorKind::ConnectionRefused, Ok(file)) if !file.file_type().is_socket() => {
            "that file is no socket".to_owned()
        }
        (io::ErrorKind::ConnectionRefused, _) => {
            "the file is there and nobody listens behind it: its app has ended".to_owned()
        }
        (io::ErrorKind::PermissionDenied, Ok(file)) => format!(
            "permission denied: it belongs to user {} and group {} with mode {:04o}, and onedoor, which must be allowed to \
             write to it, runs as user {}",
            file.uid(),
            file.gid(),
            file.mode() & 0o7777,
            rustix::process::geteuid().as_raw(),
        ),
        (io::ErrorKind::PermissionDenied, Err(_)) => {
            "permission denied: onedoor may not enter the folder it is in".to_owned()
        }
        // unix(7): unlike TCP it does not wait.
        (io::ErrorKind::WouldBlock, _) => {
            "as many connections wait there as its app allows (its backlog)".to_owned()
        }
        _ => return error,
    };
    io::Error::new(kind, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn told(path: &Path, kind: io::ErrorKind) -> String {
        explained(path, kind.into()).to_string()
    }

    #[test]
    fn each_reason_has_words_of_its_own() {
        let folder = std::env::temp_dir().join(format!("onedoor-socket-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (socket, plain, none) = (folder.join("s"), folder.join("f"), folder.join("n"));
        drop(fs::remove_file(&socket));
        drop(UnixListener::bind(&socket).expect("a socket"));
        fs::write(&plain, "x").expect("a file");
        for (path, kind, part) in [
            (
                &socket,
                io::ErrorKind::ConnectionRefused,
                "nobody listens behind it",
            ),
            (&plain, io::ErrorKind::ConnectionRefused, "no socket"),
            (&none, io::ErrorKind::NotFound, "no such file"),
            (
                &none.join("x"),
                io::ErrorKind::NotFound,
                "its folder is not there",
            ),
            (&socket, io::ErrorKind::PermissionDenied, "with mode 0"),
            (&socket, io::ErrorKind::WouldBlock, "backlog"),
        ] {
            let found = told(path, kind);
            assert!(found.contains(part), "{path:?} {kind:?}: {found}");
        }
        drop(fs::remove_dir_all(&folder));
    }
}
