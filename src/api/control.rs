//! The control socket: how the command line talks to the running server.
//!
//! A Unix stream socket that only its owner may open. One JSON object per line in each direction:
//! `{"user_add":{"user":"alice","password":".."}}` is answered by `{"done":{"text":".."}}` or `{"error":{..}}`.
//! Lines, connections and waits are bounded; requests are performed one at a time.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::api::explain::Explanation;
use crate::api::message::MessageLine;
use crate::api::trace::TraceLine;
use crate::api::users::UserLine;
use crate::availability::documents;
use crate::model::{Redacted, SubHandling};

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make a user.
    UserAdd {
        /// `alice`, or `alice@` and the domain.
        user: String,
        /// Goes through memory only.
        #[serde(with = "secret")]
        password: Redacted<String>,
    },
    /// All users.
    UserList {},
    /// Set a password.
    UserPasswd {
        /// Whose.
        user: String,
        /// Goes through memory only.
        #[serde(with = "secret")]
        password: Redacted<String>,
    },
    /// Remove a user with everything of theirs.
    UserRemove {
        /// Whom.
        user: String,
    },
    /// How the server does.
    Status {},
    /// Whom a user's rules name.
    Rules {
        /// Whose.
        user: String,
    },
    /// Who asks to see a user and waits for an answer.
    RulesPending {
        /// Whom they ask.
        user: String,
    },
    /// A user's rules as they are kept.
    RulesShow {
        /// Whose.
        user: String,
    },
    /// Say something of a watcher.
    RulesSet {
        /// Whose rules.
        user: String,
        /// Of whom: `bob`, or `bob@example.net`.
        watcher: String,
        /// What.
        handling: Handling,
    },
    /// Say nothing of a watcher any more.
    RulesRemove {
        /// Whose rules.
        user: String,
        /// Of whom.
        watcher: String,
    },
    /// Replace all rules.
    RulesReplace {
        /// Whose.
        user: String,
        /// `application/auth-policy+xml`.
        document: String,
    },
    /// A user's contact lists.
    Lists {
        /// Whose.
        user: String,
    },
    /// Put somebody into a list.
    ListsAdd {
        /// Whose list.
        user: String,
        /// Its name; it is made if it is not there.
        list: String,
        /// Whom: `bob`, or `bob@example.net`.
        entry: String,
    },
    /// Take somebody out of a list.
    ListsRemove {
        /// Whose list.
        user: String,
        /// Its name.
        list: String,
        /// Whom; nobody: the whole list goes.
        entry: Option<String>,
    },
    /// Why a watcher sees what it sees.
    Explain {
        /// Who watches.
        watcher: String,
        /// Who is watched.
        presentity: String,
    },
    /// The last messages of a user.
    Trace {
        /// Whose.
        user: String,
        /// Those with higher numbers only.
        after: u64,
        /// Record everything of that user from now on for so many seconds; 0: as it is.
        follow_s: u32,
    },
    /// What became of a message.
    MessageTrace {
        /// Our id, the sender's Call-ID, or the Message-ID.
        name: String,
    },
}

/// What becomes of a watcher (RFC 5025 3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handling {
    /// Refused.
    Block,
    /// Waits.
    Confirm,
    /// Sees somebody who is not there.
    PoliteBlock,
    /// Sees everything.
    Allow,
}

impl From<Handling> for SubHandling {
    fn from(handling: Handling) -> SubHandling {
        match handling {
            Handling::Block => SubHandling::Block,
            Handling::Confirm => SubHandling::Confirm,
            Handling::PoliteBlock => SubHandling::PoliteBlock,
            Handling::Allow => SubHandling::Allow,
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It is done.
    Done {
        /// A sentence for the operator.
        text: String,
    },
    /// Answer to `user_list`, sorted.
    Users {
        /// One per account.
        users: Vec<UserLine>,
    },
    /// Answer to `status`: names and numbers, in the words of the server.
    Status {
        /// `{"version": "0.1.0", "uptime_s": 12, ..}`
        values: serde_json::Map<String, serde_json::Value>,
    },
    /// Answer to `explain`.
    Explained {
        /// See there.
        explanation: Box<Explanation>,
    },
    /// Answer to `trace`.
    Traced {
        /// Oldest first.
        messages: Vec<TraceLine>,
        /// So long everything of that user is recorded; 0: only failures are.
        following_s: u32,
    },
    /// Answer to `message_trace`.
    MessageTraced {
        /// All with that name, oldest first.
        messages: Vec<MessageLine>,
    },
    /// It is not done.
    Error {
        /// For programs.
        reason: Reason,
        /// For people.
        text: String,
    },
}

/// Why a request was not performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request does not read, or asks for something that cannot be.
    Invalid,
    /// That user is there already.
    Exists,
    /// There is no such user.
    NotFound,
    /// The database failed or did not answer in time.
    Store,
}

/// Performs one request.
pub type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// What went wrong with the socket.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A running server answers on it.
    #[error("another server answers on {}", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{} is there and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// Nobody listens: no server runs.
    #[error("no server listens on {}", .0.display())]
    Nobody(PathBuf),
    /// It belongs to somebody else.
    #[error("no permission for {}: run as the user the server runs as", .0.display())]
    Denied(PathBuf),
    /// The server did not answer in time, or not with a response.
    #[error("the server on {} does not answer as it should", .0.display())]
    Mute(PathBuf),
    /// The system refused.
    #[error("control socket {}: {source}", path.display())]
    Io {
        /// Which socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The server's end.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens on `path`, for its owner only (mode 0600). The file of a killed run is replaced, that of a running server not.
    ///
    /// # Errors
    /// `InUse`, `NotASocket`, or `Io`.
    pub async fn bind(path: &Path) -> Result<Control, Fault> {
        let failed = |source| Fault::Io { path: path.into(), source };
        match tokio::fs::symlink_metadata(path).await {
            Ok(there) if !there.file_type().is_socket() => return Err(Fault::NotASocket(path.into())),
            Ok(_) => match connect(path).await {
                Err(Fault::Nobody(_)) => {}
                Ok(_) | Err(Fault::Mute(_)) => return Err(Fault::InUse(path.into())),
                Err(other) => return Err(other),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = private_listener(path).map_err(failed)?;
        Ok(Control { listener, path: path.into() })
    }

    /// Answers until `stop` is true (or its sender is gone), then removes the socket.
    pub async fn serve(self, handler: Handler, mut stop: watch::Receiver<bool>) {
        // One request at a time: what one finds is still so when it writes.
        let turn = Arc::new(Mutex::new(handler));
        // Owned here and aborted with this future, so no task outlives the server.
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            tokio::select! {
                // Cancel-safe: stopped, join_next and accept lose nothing.
                () = stopped(&mut stop) => break,
                _ = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => { connections.spawn(converse(stream, turn.clone(), stop.clone())); }
                    Err(error) => {
                        warn!(%error, "control socket cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // A change that the store has taken is answered; whoever only holds a connection open is not waited for.
        let ended = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(HANDLER_DEADLINE, ended).await;
        connections.shutdown().await;
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Asks the server on `path`.
///
/// # Errors
/// `Nobody` if no server runs; the others as they say.
pub async fn ask(path: &Path, request: &Request) -> Result<Response, Fault> {
    let mute = || Fault::Mute(path.into());
    let stream = connect(path).await?;
    let exchange = async {
        let mut stream = BufReader::new(stream);
        write_line(&mut stream, request).await?;
        read_line(&mut stream, MAX_ANSWER).await
    };
    let line = timeout(CLIENT_DEADLINE, exchange).await.map_err(|_| mute())?.map_err(|_| mute())?;
    serde_json::from_slice(&line.ok_or_else(mute)?).map_err(|_| mute())
}

async fn connect(path: &Path) -> Result<UnixStream, Fault> {
    match timeout(CONNECT_DEADLINE, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Fault::Nobody(path.into()),
            io::ErrorKind::PermissionDenied => Fault::Denied(path.into()),
            // A full backlog: somebody is there.
            io::ErrorKind::WouldBlock => Fault::Mute(path.into()),
            _ => Fault::Io { path: path.into(), source: error },
        }),
        Err(_) => Err(Fault::Mute(path.into())),
    }
}

/// Bound under another name, closed to others, and only then listening under its own: nobody gets in between.
fn private_listener(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(&fresh)?)?;
    let opened = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| std::fs::rename(&fresh, path));
    if let Err(error) = opened {
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    UnixListener::from_std(socket.into())
}

/// One connection, line by line, until it ends, is silent for too long, or says something that is no request.
async fn converse(stream: UnixStream, turn: Arc<Mutex<Handler>>, mut stop: watch::Receiver<bool>) {
    let mut stream = BufReader::new(stream);
    loop {
        // Half a line may be lost to the stop: it was not a request yet.
        let read = tokio::select! {
            read = timeout(LINE_DEADLINE, read_line(&mut stream, MAX_REQUEST)) => read,
            () = stopped(&mut stop) => return,
        };
        let line = match read {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                debug!(%error, "control connection");
                let _ =
                    timeout(LINE_DEADLINE, write_line(&mut stream, &invalid("the line is too long"))).await;
                return;
            }
            Err(_) => return,
        };
        let (response, is_last) = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => {
                // Waiting for the turn has a deadline of its own: whoever has it has one too.
                let performed = async {
                    let handler = turn.lock().await;
                    timeout(HANDLER_DEADLINE, handler(request)).await
                };
                let performed = timeout(TURN_DEADLINE, performed).await;
                let late = "no answer from the store in time; look whether it was done";
                let late = Response::Error { reason: Reason::Store, text: late.into() };
                (performed.unwrap_or(Ok(late.clone())).unwrap_or(late), false)
            }
            // Not the text of the error: it may quote a password.
            Err(_) => (invalid("this is not a request"), true),
        };
        let written = timeout(LINE_DEADLINE, write_line(&mut stream, &response)).await;
        if is_last || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// Until `stop` is true or nobody can say so any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn invalid(text: &str) -> Response {
    Response::Error { reason: Reason::Invalid, text: text.into() }
}

/// `None` at the end of the stream. A line that is cut off or too long is an error.
async fn read_line(stream: &mut BufReader<UnixStream>, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(max).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn write_line(stream: &mut BufReader<UnixStream>, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line).await?;
    stream.get_mut().flush().await
}

/// The one place where a password is written: the line to the server.
mod secret {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Redacted;

    pub(super) fn serialize<S: Serializer>(
        secret: &Redacted<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&secret.0)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Redacted<String>, D::Error> {
        Ok(Redacted(String::deserialize(deserializer)?))
    }
}

/// Bytes of a request line: the largest document that is kept, with every other character escaped.
const MAX_REQUEST: u64 = 2 * documents::MAX_BYTES as u64 + 4 * 1024;
/// Bytes of an answer: a list of half a million users.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
const MAX_CONNECTIONS: usize = 8;
const BACKLOG: i32 = 16;
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const LINE_DEADLINE: Duration = Duration::from_secs(5);
const HANDLER_DEADLINE: Duration = Duration::from_secs(10);
const TURN_DEADLINE: Duration = Duration::from_secs(20);
const CLIENT_DEADLINE: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what it was asked, as text.
    fn echo() -> Handler {
        Arc::new(|request| Box::pin(async move { Response::Done { text: format!("{request:?}") } }))
    }

    struct Running {
        dir: tempfile::TempDir,
        stop: watch::Sender<bool>,
        served: JoinSet<()>,
    }

    impl Running {
        async fn start(handler: Handler) -> Running {
            let dir = tempfile::tempdir().unwrap();
            let (stop, stopped) = watch::channel(false);
            let control = Control::bind(&dir.path().join("hither.sock")).await.unwrap();
            let mut served = JoinSet::new();
            served.spawn(control.serve(handler, stopped));
            Running { dir, stop, served }
        }
        fn path(&self) -> PathBuf {
            self.dir.path().join("hither.sock")
        }
    }

    fn add(password: &str) -> Request {
        Request::UserAdd { user: "alice".into(), password: Redacted(password.into()) }
    }

    #[test]
    fn requests_are_written_as_documented() {
        let text = r#"{"user_add":{"user":"alice","password":"pw"}}"#;
        assert_eq!(serde_json::to_string(&add("pw")).unwrap(), text);
        assert_eq!(serde_json::from_str::<Request>(text).unwrap(), add("pw"));
        for text in [r#"{"user_list":{}}"#, r#"{"status":{}}"#, r#"{"user_remove":{"user":"alice"}}"#] {
            let request: Request = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
        assert!(serde_json::from_str::<Request>(r#"{"user_remove":{"user":"a","all":true}}"#).is_err());
    }

    #[test]
    fn passwords_are_not_shown() {
        assert!(!format!("{:?}", add("s3cret")).contains("s3cret"));
    }

    #[tokio::test]
    async fn a_request_is_answered() {
        let server = Running::start(echo()).await;
        let answer = timeout(LINE_DEADLINE, ask(&server.path(), &add("s3cret"))).await.unwrap().unwrap();
        let Response::Done { text } = answer else { panic!("{answer:?}") };
        assert!(text.contains("alice") && !text.contains("s3cret"), "{text}");
    }

    #[tokio::test]
    async fn only_the_owner_may_open_it() {
        let server = Running::start(echo()).await;
        let mode = std::fs::metadata(server.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn several_lines_go_over_one_connection() {
        let server = Running::start(echo()).await;
        let mut stream = BufReader::new(UnixStream::connect(server.path()).await.unwrap());
        for _ in 0..3 {
            write_line(&mut stream, &Request::Status {}).await.unwrap();
            let line = timeout(LINE_DEADLINE, read_line(&mut stream, MAX_ANSWER)).await.unwrap().unwrap();
            assert!(String::from_utf8(line.unwrap()).unwrap().contains("Status"));
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_without_quoting_it() {
        let server = Running::start(echo()).await;
        let mut stream = BufReader::new(UnixStream::connect(server.path()).await.unwrap());
        stream.get_mut().write_all(b"{\"user_add\":{\"password\":\"s3cret\"}}\n").await.unwrap();
        let line =
            timeout(LINE_DEADLINE, read_line(&mut stream, MAX_ANSWER)).await.unwrap().unwrap().unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains("\"invalid\"") && !line.contains("s3cret"), "{line}");
        assert!(timeout(LINE_DEADLINE, read_line(&mut stream, MAX_ANSWER)).await.unwrap().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_refused() {
        let server = Running::start(echo()).await;
        let mut stream = BufReader::new(UnixStream::connect(server.path()).await.unwrap());
        stream.get_mut().write_all(&vec![b'x'; usize::try_from(MAX_REQUEST).unwrap()]).await.unwrap();
        let line =
            timeout(LINE_DEADLINE, read_line(&mut stream, MAX_ANSWER)).await.unwrap().unwrap().unwrap();
        assert!(String::from_utf8(line).unwrap().contains("too long"));
    }

    #[tokio::test]
    async fn more_connections_than_eight_wait_their_turn() {
        let server = Running::start(echo()).await;
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            held.push(UnixStream::connect(server.path()).await.unwrap());
        }
        let path = server.path();
        let status = Request::Status {};
        let waiting = ask(&path, &status);
        tokio::pin!(waiting);
        let early = timeout(Duration::from_millis(50), &mut waiting).await;
        assert!(early.is_err(), "answered while eight are open");
        drop(held);
        timeout(LINE_DEADLINE, waiting).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hither.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = Control::bind(&path).await.unwrap();
        assert!(matches!(Control::bind(&path).await, Err(Fault::InUse(_))));
        drop(first);
    }

    #[tokio::test]
    async fn a_file_of_that_name_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hither.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Control::bind(&path).await, Err(Fault::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn without_a_server_nobody_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hither.sock");
        assert!(matches!(ask(&path, &Request::Status {}).await, Err(Fault::Nobody(_))));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(ask(&path, &Request::Status {}).await, Err(Fault::Nobody(_))));
    }

    #[tokio::test]
    async fn the_socket_goes_with_the_server() {
        let mut server = Running::start(echo()).await;
        server.stop.send(true).unwrap();
        timeout(LINE_DEADLINE, server.served.join_next()).await.unwrap().unwrap().unwrap();
        assert!(!server.path().exists());
    }
}
