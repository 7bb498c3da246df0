//! Passwords: asked, read or made. They are never printed except when made.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::{Command, Stdio};

use crate::cli::PasswordFrom;
use crate::model::Redacted;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The two did not match.
    #[error("the two passwords differ")]
    Differ,
    /// Nothing was given.
    #[error("no password was given")]
    Empty,
    /// Longer than any password.
    #[error("the password is too long")]
    TooLong,
    /// Standard input or output failed.
    #[error("cannot read the password: {0}")]
    Io(#[from] io::Error),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// A password from where it is to come from; `true` if it was made here and is to be printed.
pub(super) fn obtain(from: PasswordFrom) -> Result<(Redacted<String>, bool), PasswordError> {
    if from.generate {
        return Ok((generate(system_random)?, true));
    }
    let stdin = io::stdin();
    if from.password_stdin || !stdin.is_terminal() {
        return Ok((read(&mut stdin.lock())?, false));
    }
    let _quiet = NoEcho::begin();
    let first = ask("Password: ", &mut stdin.lock())?;
    let second = ask("Again: ", &mut stdin.lock())?;
    if first == second { Ok((first, false)) } else { Err(PasswordError::Differ) }
}

/// Ten letters that are hard to take for one another (46 bits); `fill` fills a buffer with random bytes, or says `false`.
pub(super) fn generate(mut fill: impl FnMut(&mut [u8]) -> bool) -> Result<Redacted<String>, PasswordError> {
    let mut password = String::with_capacity(LENGTH);
    for _ in 0..MAX_ROUNDS {
        let mut bytes = [0; 64];
        if !fill(&mut bytes) {
            return Err(PasswordError::NoRandomness);
        }
        // The low five bits; what is past the alphabet is thrown away, so that every letter is as likely.
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 31)));
        password.extend(letters.take(LENGTH - password.len()).map(|letter| char::from(*letter)));
        if password.len() == LENGTH {
            return Ok(Redacted(password));
        }
    }
    Err(PasswordError::NoRandomness)
}

/// Randomness of the system.
pub(super) fn system_random(bytes: &mut [u8]) -> bool {
    aws_lc_rs::rand::fill(bytes).is_ok()
}

fn ask(prompt: &str, input: &mut impl BufRead) -> Result<Redacted<String>, PasswordError> {
    eprint!("{prompt}");
    io::stderr().flush()?;
    let password = read(input);
    eprintln!();
    password
}

/// One line, without its end.
fn read(input: &mut impl BufRead) -> Result<Redacted<String>, PasswordError> {
    let mut line = String::new();
    input.take(MAX_LINE).read_line(&mut line)?;
    if line.len() as u64 >= MAX_LINE {
        return Err(PasswordError::TooLong);
    }
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() { Err(PasswordError::Empty) } else { Ok(Redacted(password.into())) }
}

/// The terminal shows nothing while this lives (if it has `stty`; else what is typed is seen).
struct NoEcho;

impl NoEcho {
    fn begin() -> NoEcho {
        stty("-echo");
        NoEcho
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(setting: &str) {
    let _ = Command::new("stty").arg(setting).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
}

const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz";
const LENGTH: usize = 10;
const MAX_ROUNDS: usize = 8;
const MAX_LINE: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_passwords_are_ten_letters_and_differ() {
        let one = generate(system_random).unwrap();
        assert_eq!(one.0.len(), 10);
        assert!(one.0.bytes().all(|byte| LETTERS.contains(&byte)));
        assert_ne!(one, generate(system_random).unwrap());
    }

    #[test]
    fn without_randomness_there_is_no_password() {
        assert!(matches!(generate(|_| false), Err(PasswordError::NoRandomness)));
        let past_the_alphabet = |bytes: &mut [u8]| {
            bytes.fill(0xFF);
            true
        };
        assert!(matches!(generate(past_the_alphabet), Err(PasswordError::NoRandomness)));
    }

    #[test]
    fn one_line_is_the_password() {
        assert_eq!(read(&mut "open sesame\r\nmore".as_bytes()).unwrap().0, "open sesame");
        assert_eq!(read(&mut "no end".as_bytes()).unwrap().0, "no end");
        assert!(matches!(read(&mut "\n".as_bytes()), Err(PasswordError::Empty)));
        assert!(matches!(read(&mut "".as_bytes()), Err(PasswordError::Empty)));
        assert!(matches!(read(&mut "x".repeat(2_000).as_bytes()), Err(PasswordError::TooLong)));
    }
}
