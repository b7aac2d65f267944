//! Who may do what: no password on loopback, a set-up code before there is a password, sessions where there is one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::attempts::Attempts;
use super::password::{self, LEAST_CHARS, MOST_BYTES, Password};
use super::sessions::{self, Role, Sessions};
use super::{PageError, PageOptions};
use crate::state_files::StateFiles;

/// Letters and digits that are not mistaken for each other, in a code that is typed once.
const CODE_LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_CHARS: usize = 10;
/// A password that was set on the page, in the state directory.
const OWN_PASSWORD: &str = "page-password";

/// What stands between a browser and the page.
pub enum Lock {
    /// No password, and nobody but this computer's users can come here.
    Open,
    /// No password yet: only the set-up code is taken.
    SetUp,
    /// A password is needed.
    Passwords { operator: Option<Password>, viewer: Option<Password> },
}

/// Why nobody was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Wrong password or code.
    Wrong,
    /// Too many were tried: wait.
    Wait(Duration),
    /// The new password will not do, or cannot be kept.
    Unfit(String),
}

/// Passwords, sessions and attempts.
pub struct Access {
    password_file: Option<PathBuf>,
    viewer_file: Option<PathBuf>,
    /// Where a password that is set on the page is kept.
    own_file: Option<PathBuf>,
    state_files: Option<StateFiles>,
    is_loopback: bool,
    code: Mutex<Option<String>>,
    sessions: Mutex<Sessions>,
    attempts: Mutex<Attempts>,
    /// A hash takes memory: one at a time.
    hashing: Arc<tokio::sync::Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The password that was configured, else the one that was set on the page.
fn operator_of(configured: Option<&Path>, own: Option<&Path>) -> Result<Option<Password>, password::PasswordError> {
    match (configured, own) {
        (Some(file), _) => Password::read(file).map(Some),
        (None, Some(file)) if file.exists() => Password::read_own(file).map(Some),
        _ => Ok(None),
    }
}

impl Access {
    /// Reads the passwords once, so that what is wrong with them is known at the start.
    ///
    /// # Errors
    /// A password file that cannot be used; an address that others reach, without a password and a way to set one.
    pub fn new(options: &PageOptions) -> Result<Access, PageError> {
        let state_file = |name| options.state_dir.as_deref().map(|dir| dir.join(name));
        let access = Access {
            password_file: options.password_file.clone(),
            viewer_file: options.viewer_password_file.clone(),
            own_file: state_file(OWN_PASSWORD),
            state_files: options.state_dir.as_deref().map(StateFiles::new),
            is_loopback: options.listen.ip().is_loopback(),
            code: Mutex::default(),
            sessions: Mutex::new(Sessions::restore(state_file("page-sessions.json"))),
            attempts: Mutex::new(Attempts::new(Instant::now())),
            hashing: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        let operator = access.operator()?;
        access.note_own_password();
        if let Some(file) = &access.viewer_file {
            Password::read(file)?;
            if operator.is_none() {
                return Err(PageError::ViewerAlone);
            }
        }
        if operator.is_none() && !access.is_loopback {
            if access.own_file.is_none() {
                return Err(PageError::NoPassword { listen: options.listen });
            }
            *lock(&access.code) = Some(new_code());
        }
        Ok(access)
    }

    /// Reads the passwords and keeps nothing of them.
    ///
    /// # Errors
    /// A password file that cannot be used; a password for viewers alone.
    pub fn try_files(options: &PageOptions) -> Result<(), PageError> {
        let own = options.state_dir.as_ref().map(|dir| dir.join(OWN_PASSWORD));
        let operator = operator_of(options.password_file.as_deref(), own.as_deref())?;
        match &options.viewer_password_file {
            Some(_) if operator.is_none() => Err(PageError::ViewerAlone),
            Some(file) => Password::read(file).map(drop).map_err(PageError::from),
            None => Ok(()),
        }
    }

    /// A password that was set on the page and whose file is gone is missed once.
    fn note_own_password(&self) {
        let (Some(files), Some(file)) = (&self.state_files, &self.own_file) else { return };
        if file.exists() {
            files.set_mark(OWN_PASSWORD, 1);
        } else if let Err(lost) = files.read(OWN_PASSWORD) {
            tracing::error!("the page's password is lost: {lost}");
        }
    }

    /// The code that sets the first password, while there is none.
    pub fn code(&self) -> Option<String> {
        lock(&self.code).clone()
    }

    fn operator(&self) -> Result<Option<Password>, password::PasswordError> {
        operator_of(self.password_file.as_deref(), self.own_file.as_deref())
    }

    /// What is needed now. A password file that has become unreadable lets nobody in.
    pub fn lock(&self) -> Lock {
        let operator = self.operator().map_err(|error| {
            tracing::error!("nobody can log in to the page: {:#}", anyhow::Error::from(error));
        });
        match operator {
            Ok(None) if self.is_loopback => Lock::Open,
            Ok(None) => Lock::SetUp,
            operator => {
                let viewer = self.viewer_file.as_deref().and_then(|file| Password::read(file).ok());
                Lock::Passwords { operator: operator.ok().flatten(), viewer }
            }
        }
    }

    /// What the holder of `token` may do; `None`: nothing yet.
    pub fn role(&self, token: Option<&str>) -> Option<Role> {
        let (operator, viewer) = match self.lock() {
            Lock::Open => return Some(Role::Operator),
            Lock::SetUp => return None,
            Lock::Passwords { operator, viewer } => (operator, viewer),
        };
        let sessions = lock(&self.sessions);
        let (role, password) = sessions.find(token?, SystemTime::now())?;
        let secret = match role {
            Role::Operator => operator?,
            Role::Viewer => viewer?,
        };
        (password == sessions::fingerprint(secret.fingerprint())).then_some(role)
    }

    /// Which role `password` opens.
    ///
    /// # Errors
    /// A wrong one; too many attempts.
    pub async fn check(&self, address: IpAddr, password: String) -> Result<(Role, [u8; 32]), Denied> {
        lock(&self.attempts).take(address, Instant::now()).map_err(Denied::Wait)?;
        let Lock::Passwords { operator, viewer } = self.lock() else { return Err(Denied::Wrong) };
        if password.len() > MOST_BYTES {
            return Err(Denied::Wrong);
        }
        let secrets = [(Role::Operator, operator), (Role::Viewer, viewer)];
        let opened = self.blocking(move || {
            let known = secrets.into_iter().filter_map(|(role, secret)| Some((role, secret?)));
            known.into_iter().find(|(_, secret)| secret.is(&password))
        });
        let (role, secret) = opened.await.flatten().ok_or(Denied::Wrong)?;
        lock(&self.attempts).give_back(address);
        Ok((role, secret.fingerprint()))
    }

    /// Opens a session, always a new one: a token that somebody else may have planted ends. Returns the new token.
    ///
    /// # Errors
    /// As [`Access::check`].
    pub async fn log_in(&self, address: IpAddr, password: String, old: Option<&str>) -> Result<String, Denied> {
        let (role, fingerprint) = self.check(address, password).await?;
        let mut sessions = lock(&self.sessions);
        if let Some(old) = old {
            sessions.close(old);
        }
        Ok(sessions.open(role, fingerprint, SystemTime::now()))
    }

    pub fn log_out(&self, token: &str) {
        lock(&self.sessions).close(token);
    }

    /// Sets the first password and opens a session with it.
    ///
    /// # Errors
    /// A wrong code, a password that is too short, a disk that does not take it.
    pub async fn set_first(&self, address: IpAddr, code: &str, password: String) -> Result<String, Denied> {
        lock(&self.attempts).take(address, Instant::now()).map_err(Denied::Wait)?;
        let (Lock::SetUp, Some(own_file)) = (self.lock(), self.own_file.clone()) else { return Err(Denied::Wrong) };
        let plain = |code: &str| code.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
        let is_right = lock(&self.code).as_deref().is_some_and(|right| Password::Plain(plain(right)).is(&plain(code)));
        if !is_right {
            return Err(Denied::Wrong);
        }
        if password.chars().count() < LEAST_CHARS || password.len() > MOST_BYTES || password.trim() != password {
            return Err(Denied::Unfit(format!(
                "expected a password of {LEAST_CHARS} characters or more that neither begins nor ends with a space"
            )));
        }
        let kept =
            self.blocking(move || password::write(&own_file, &password).and_then(|()| Password::read_own(&own_file)));
        let secret = match kept.await {
            Some(Ok(secret)) => secret,
            Some(Err(error)) => return Err(Denied::Unfit(error.to_string())),
            None => return Err(Denied::Unfit("the password could not be hashed".into())),
        };
        lock(&self.attempts).give_back(address);
        *lock(&self.code) = None;
        self.note_own_password();
        tracing::info!("the page has a password now");
        Ok(lock(&self.sessions).open(Role::Operator, secret.fingerprint(), SystemTime::now()))
    }

    /// Runs what takes a processor for a while, one at a time, beside the streams.
    async fn blocking<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let permit = self.hashing.clone().acquire_owned().await.ok()?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            job()
        })
        .await
        .ok()
    }
}

/// About 50 bits, in two groups.
fn new_code() -> String {
    let letter = || char::from(CODE_LETTERS[rand::random_range(0..CODE_LETTERS.len())]);
    let code: String = (0..CODE_CHARS).map(|_| letter()).collect();
    format!("{}-{}", &code[..CODE_CHARS / 2], &code[CODE_CHARS / 2..])
}
