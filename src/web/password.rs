//! Passwords at rest: the first line of a file, as it is or as an argon2 hash; checked without telling by time.

use std::path::{Path, PathBuf};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};

use crate::fs;
use crate::sha256::check_sum;

/// Shortest password that can be set on the page.
pub const LEAST_CHARS: usize = 8;
/// Longest password that is looked at.
pub const MOST_BYTES: usize = 1024;
/// Memory of one hash in KiB, and passes over it: what a small computer can spare, as OWASP advises.
const COST: (u32, u32) = (7168, 5);
/// Most memory that a hash made elsewhere may ask for, KiB.
const MOST_MEMORY_KIB: u32 = 64 * 1024;

/// A password, or its hash.
#[derive(Clone, PartialEq)]
pub enum Password {
    Plain(String),
    Hash(String),
}

/// Why there is no password; names the file.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("{}", file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error("{}: expected a password or an argon2 hash in the first line, found {found}", file.display())]
    Content { file: PathBuf, found: &'static str },
    #[error("a password could not be hashed")]
    Hash(#[from] argon2::password_hash::Error),
}

impl Password {
    /// Reads a file's first line.
    ///
    /// # Errors
    /// A file that cannot be read or holds neither a password nor an argon2 hash.
    pub fn read(file: &Path) -> Result<Password, PasswordError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| PasswordError::File { file: file.to_owned(), source })?;
        let line = text.lines().next().unwrap_or_default().trim_end();
        let content = |found| PasswordError::Content { file: file.to_owned(), found };
        if line.is_empty() {
            return Err(content("none"));
        }
        if line.len() > MOST_BYTES {
            return Err(content("more than 1024 bytes"));
        }
        if !line.starts_with("$argon2") {
            return Ok(Password::Plain(line.to_owned()));
        }
        let hash = PasswordHash::new(line).map_err(|_| content("a hash that is broken"))?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(content("a hash that is broken"));
        }
        let params = Params::try_from(&hash).map_err(|_| content("a hash that is broken"))?;
        if params.m_cost() > MOST_MEMORY_KIB {
            return Err(content("a hash that takes more than 64 MiB to check"));
        }
        Ok(Password::Hash(line.to_owned()))
    }

    /// Reads a file that [`write`] wrote: always a hash, with a check sum in the second line. What a
    /// power cut or a worn card leaves must not become a password.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn read_own(file: &Path) -> Result<Password, PasswordError> {
        let content = |found| PasswordError::Content { file: file.to_owned(), found };
        let bytes = fs::read(file).map_err(|source| PasswordError::File { file: file.to_owned(), source })?;
        let password = Password::read(file)?;
        let Password::Hash(hash) = &password else { return Err(content("neither: remove it to set a new password")) };
        if bytes.split(|byte| *byte == b'\n').nth(1) != Some(check_sum(hash).as_bytes()) {
            return Err(content("one that is damaged: remove it to set a new password"));
        }
        Ok(password)
    }

    /// Whether `password` is it. Takes some tens of milliseconds where it is a hash.
    pub fn is(&self, password: &str) -> bool {
        match self {
            // Digests, so that the time says nothing about the password.
            Password::Plain(plain) => Sha256::digest(plain) == Sha256::digest(password),
            Password::Hash(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
        }
    }

    /// Changes when the password does; sessions end with it.
    pub fn fingerprint(&self) -> [u8; 32] {
        let (Password::Plain(text) | Password::Hash(text)) = self;
        Sha256::digest(text).into()
    }
}

/// Writes the argon2 hash of `password` to `file`, which its owner only can read.
///
/// # Errors
/// The disk's; the file is then as before.
pub fn write(file: &Path, password: &str) -> Result<(), PasswordError> {
    let params = Params::new(COST.0, COST.1, 1, None).map_err(argon2::password_hash::Error::from)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes())?.to_string();
    fs::replace(file, format!("{hash}\n{}\n", check_sum(&hash)).as_bytes())
        .map_err(|source| PasswordError::File { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_as_a_hash_and_known_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("page-password");
        write(&file, "blower and pump").expect("a hash");
        let text = std::fs::read_to_string(&file).expect("a file");
        assert!(text.starts_with("$argon2id$v=19$m=7168,t=5,p=1$") && !text.contains("blower"), "{text}");
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        let password = Password::read(&file).expect("a password");
        assert!(password.is("blower and pump") && !password.is("blower and pum") && !password.is(""));
        assert_eq!(Password::read_own(&file).map(|own| own == password).ok(), Some(true));
        for damaged in [text.replace("m=7168", "m=7169"), text.replace('\n', ""), "\0".repeat(64), "a".into()] {
            std::fs::write(&file, damaged).expect("a writable file");
            let error = Password::read_own(&file).map(drop).expect_err("damaged").to_string();
            assert!(error.contains("expected a password or an argon2 hash"), "{error}");
        }
        write(&file, "blower and pump").expect("a hash");
        assert_ne!(Password::read(&file).expect("a password").fingerprint(), password.fingerprint());
    }

    #[test]
    fn a_file_may_hold_the_password_itself() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("password");
        std::fs::write(&file, "S3cret word\nnot this\n").expect("a writable file");
        let password = Password::read(&file).expect("a password");
        assert!(password.is("S3cret word") && !password.is("S3cret word\nnot this"));
    }

    #[test]
    fn what_is_no_password_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("password");
        assert!(Password::read(&file).is_err());
        let huge = "$argon2id$v=19$m=4000000,t=1,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (text, words) in [("\n", "found none"), ("$argon2id$v=1", "broken"), (huge, "64 MiB")] {
            std::fs::write(&file, text).expect("a writable file");
            let error = Password::read(&file).map(drop).expect_err(text).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
