//! What was said in one test, in order; printed when the test fails.

use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The recorded exchange of one test; clones share it.
#[derive(Clone)]
pub struct Ladder {
    start: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Ladder {
    pub fn new() -> Ladder {
        Ladder { start: Instant::now(), lines: Arc::new(Mutex::new(Vec::new())) }
    }

    /// Notes bytes on their way: `who` is a phone, `arrow` is `->` (to the server) or `<-`.
    pub fn record(&self, who: &str, arrow: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let first = text.lines().next().unwrap_or("").to_string();
        let cseq = text.lines().find(|line| line.to_ascii_lowercase().starts_with("cseq")).unwrap_or("");
        self.note(who, arrow, &format!("{first}  [{cseq}] {} bytes", bytes.len()));
        if std::env::var_os("HITHER_TEST_VERBOSE").is_some() {
            self.note(who, arrow, &format!("\n{text}"));
        }
    }

    /// Notes anything else worth reading afterwards.
    pub fn note(&self, who: &str, arrow: &str, what: &str) {
        let at = self.start.elapsed().as_millis();
        self.lines.lock().unwrap().push(format!("{at:>6} ms  {who:<12} {arrow} {what}"));
    }

    /// Prints everything so far.
    pub fn print(&self) {
        eprintln!("--- ladder ---");
        for line in self.lines.lock().unwrap().iter() {
            eprintln!("{line}");
        }
    }
}
