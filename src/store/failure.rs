//! What a database error means for the rows that were being written.

use sqlx::Error;

/// Why a transaction did not end as it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database looked at the values and refused them; the transaction is rolled back, the session is sound.
    Refused(Error),
    /// The session is lost before COMMIT was sent: certainly not written.
    Lost(Error),
    /// The session is lost after COMMIT was sent and before its answer: nobody knows.
    Unknown(Error),
}

/// The error a deadline stands for.
pub(super) fn deadline() -> Error {
    Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// A failure before COMMIT was sent. The server rolls back what it began for a session that ends.
pub(super) fn before_commit(error: Error) -> Failure {
    if blames_the_values(&error) { Failure::Refused(error) } else { Failure::Lost(error) }
}

/// A failure of COMMIT itself. Only an answer that says "rolled back" is certain; everything else may have come after
/// the transaction was on disk.
pub(super) fn in_commit(error: Error) -> Failure {
    match &error {
        Error::Database(answer) => match answer.code().as_deref() {
            // Postgres: transaction rollback. SQLite: busy, the transaction is still open.
            Some(code) if code.len() == 5 && code.starts_with("40") => Failure::Lost(error),
            Some("5" | "261" | "517") => Failure::Lost(error),
            _ if blames_the_values(&error) => Failure::Refused(error),
            _ => Failure::Unknown(error),
        },
        _ => Failure::Unknown(error),
    }
}

/// Is it about what was written, and not about the database, the connection or the disk?
fn blames_the_values(error: &Error) -> bool {
    match error {
        Error::Encode(_) | Error::InvalidArgument(_) => true,
        Error::Database(answer) => match answer.code().as_deref() {
            // SQLSTATE, five characters: its class says whose fault it is.
            Some(code) if code.len() == 5 && !code.starts_with('0') => {
                !SERVER_CLASSES.iter().any(|class| code.starts_with(class))
            }
            Some(code) if code.len() == 5 => false,
            // SQLite, an extended result code: TOOBIG, CONSTRAINT, MISMATCH in its lowest byte.
            Some(code) => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20)),
            None => false,
        },
        _ => false,
    }
}

/// SQLSTATE classes of the server's own troubles: transaction state (25: also a standby that is read-only),
/// authorization, catalog, rollback, schema and privileges, resources, object state, operator, system, configuration.
const SERVER_CLASSES: [&str; 10] = ["25", "28", "3D", "40", "42", "53", "55", "57", "58", "F0"];
