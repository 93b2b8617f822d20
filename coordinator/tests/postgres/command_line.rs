//! The `edgekeep` program as an administrator and a script use it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::{Database, PASSWORD};

struct Edgekeep {
    file: PathBuf,
    database: Database,
}

impl Edgekeep {
    async fn new() -> Self {
        let database = Database::new().await;
        let file = std::env::temp_dir().join(format!("{}.toml", database.name));
        let done = Command::new(env!("CARGO_BIN_EXE_edgekeep"))
            .args(["config", "init", "--output"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
        Self { file, database }
    }

    fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edgekeep"))
            .args(arguments)
            .env("EDGEKEEP_CONFIG", &self.file)
            .env("EDGEKEEP_DATABASE_URL", &self.database.url)
            .env("EDGEKEEP_ARGON2__MEMORY_KIB", "1024")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn ok(&self, arguments: &[&str], stdin: &str) -> String {
        let done = self.run(arguments, stdin);
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        text(&done.stdout)
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(arguments, "")).unwrap()
    }

    /// Refused or failed: status 1 and one line.
    fn refused(&self, arguments: &[&str], stdin: &str) -> String {
        let done = self.run(arguments, stdin);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}");
        let error = text(&done.stderr);
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }
}

impl Drop for Edgekeep {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_from_first_to_last() {
    let edgekeep = Edgekeep::new().await;
    let password = format!("{PASSWORD}\n");
    edgekeep.ok(&["config", "check"], "");
    edgekeep.ok(&["migrate"], "");
    edgekeep.ok(&["user", "add", "ann", "--roles", "staff,admin"], &password);
    assert!(edgekeep.refused(&["user", "add", "Ann"], &password).contains("already"));
    assert!(edgekeep.refused(&["user", "add", "bob"], "short\n").contains("at least 15"));
    assert!(edgekeep.refused(&["user", "add", "bob"], "").contains("no password"));
    assert!(edgekeep.refused(&["user", "show", "bob"], "").contains("no user called bob"));
    let ann = edgekeep.json(&["user", "show", "ann", "--json"]);
    assert_eq!((ann["name"].as_str(), ann["roles"][0].as_str()), (Some("ann"), Some("admin")));
    edgekeep.ok(&["user", "roles", "ann", "viewer"], "");
    edgekeep.ok(&["user", "passwd", "ann"], "quite another password\r\n");
    for command in ["disable", "enable", "unlock"] {
        edgekeep.ok(&["user", command, "ann"], "");
    }
    assert_eq!(edgekeep.json(&["user", "list", "--json"])[0]["roles"][0], "viewer");
    assert!(edgekeep.ok(&["user", "list"], "").contains("ann"));
    edgekeep.ok(&["session", "list", "ann"], "");
    assert_eq!(edgekeep.json(&["session", "revoke", "ann", "--json"])["ended"], 0);
    let actions = edgekeep.json(&["audit", "--user", "ann", "--json"]);
    assert_eq!(actions[0]["action"], "user_added");
    assert!(!edgekeep.ok(&["audit"], "").contains(PASSWORD));
    edgekeep.ok(&["user", "delete", "ann"], "");
    edgekeep.refused(&["user", "show", "ann"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn import_reports_each_line_and_never_shows_a_hash() {
    let edgekeep = Edgekeep::new().await;
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let lines = format!(
        "{{\"name\":\"ann\",\"hash\":\"{hash}\",\"roles\":[\"staff\"]}}\n{{\"name\":\"bob\",\"hash\":\"plain text secret\"}}\n\
         not json with secret\n"
    );
    let done = edgekeep.run(&["user", "import", "-"], &lines);
    assert_eq!(done.status.code(), Some(1));
    let errors = text(&done.stderr);
    assert!(errors.contains("line 2") && errors.contains("line 3") && !errors.contains("secret"), "{errors}");
    assert!(edgekeep.ok(&["user", "show", "ann"], "").contains("imported"));
    let again = format!("{{\"name\":\"ann\",\"hash\":\"{hash}\"}}\n");
    assert!(edgekeep.ok(&["user", "import", "-", "--skip-existing"], &again).contains("1 skipped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_keys_and_settings() {
    let edgekeep = Edgekeep::new().await;
    let added = edgekeep.json(&["edge", "add", "eu-1", "--json"]);
    assert!(added["credential"].as_str().unwrap().starts_with("ek_eu-1_"));
    assert_eq!(edgekeep.json(&["edge", "list", "--json"])[0]["edge_id"], "eu-1");
    edgekeep.ok(&["key", "rotate"], "");
    let key = edgekeep.json(&["key", "list", "--json"])[0]["id"].to_string();
    edgekeep.ok(&["key", "withdraw", &key], "");
    edgekeep.refused(&["key", "withdraw", "12345"], "");
    edgekeep.ok(&["edge", "revoke", "eu-1"], "");
    edgekeep.refused(&["edge", "revoke", "eu-1"], "");
    let set = edgekeep.ok(&["settings", "set", "max_staleness_ms=2000", "guess_limit=7"], "");
    assert!(set.contains("max_staleness_ms=2000") && set.contains("guess_limit=7"));
    assert_eq!(edgekeep.json(&["settings", "show", "--json"])["guess_limit"], 7);
    assert!(edgekeep.refused(&["settings", "set", "guess_limit=0"], "").contains("guess_limit"));
    edgekeep.ok(&["after-restore"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_configuration_and_secrets() {
    let edgekeep = Edgekeep::new().await;
    for wrong in
        [&["nonsense"][..], &["user", "add"], &["settings", "set", "x"], &["user", "add", "a", "--password", "x"]]
    {
        assert_eq!(edgekeep.run(wrong, "").status.code(), Some(2), "{wrong:?}");
    }
    assert!(edgekeep.ok(&["--help"], "").contains("edgekeep migrate"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&edgekeep.file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let file = edgekeep.file.to_str().unwrap();
    assert!(edgekeep.refused(&["config", "init", "--output", file], "").contains("cannot create"));
    let before = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, before.replace("listen =", "lissten =")).unwrap();
    assert!(edgekeep.refused(&["config", "check"], "").contains("lissten"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_acknowledges_too_early_is_refused() {
    let edgekeep = Edgekeep::new().await;
    let statement = format!("ALTER DATABASE {} SET synchronous_commit = off", edgekeep.database.name);
    let mut conn = edgekeep.database.connect().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    assert!(edgekeep.refused(&["user", "list"], "").contains("synchronous_commit"));
}

/// One plain request: status line and body.
fn get(address: &str, path: &str) -> Option<String> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

async fn until_it_says(address: &str, path: &str, status: &str, part: &str) -> String {
    for _ in 0..600 {
        match get(address, path) {
            Some(answer) if answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part) => {
                return answer;
            }
            _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
    panic!("{path} never said {status} {part}: {:?}", get(address, path));
}

/// It must not end either: a supervisor would start it again, and the new process would not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_database_went_back_in_time_stays_up_and_refuses() {
    let edgekeep = Edgekeep::new().await;
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut serving = Command::new(env!("CARGO_BIN_EXE_edgekeep"))
        .arg("serve")
        .env("EDGEKEEP_CONFIG", &edgekeep.file)
        .env("EDGEKEEP_DATABASE_URL", &edgekeep.database.url)
        .env("EDGEKEEP_LISTEN", &address)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until_it_says(&address, "/readyz", "200", "ready").await;
    let mut conn = edgekeep.database.connect().await;
    sqlx::query("UPDATE heartbeat SET counter = 0").execute(&mut conn).await.unwrap();
    until_it_says(&address, "/readyz", "503", "after-restore").await;
    until_it_says(&address, "/healthz", "200", "stopped").await;
    assert!(get(&address, "/v1/keys").is_some_and(|answer| answer.contains("urn:edgekeep:problem:unavailable")));
    assert!(serving.try_wait().unwrap().is_none(), "it is still up");
    let ended = Command::new("kill").arg(serving.id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(serving.wait().unwrap().code(), Some(1));
}
