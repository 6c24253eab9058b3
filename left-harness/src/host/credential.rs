//! Who we are: a key of the lab's, or what the user has, tried as `ssh` tries it.
//!
//! Keys that the agent holds come first, then files; a public half is offered before
//! the private one is opened, so nobody is asked for the passphrase of a key that the
//! host does not take. Not more are offered than a host usually bears.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};
use russh::{MethodKind, MethodSet};
use tokio::net::UnixStream;

use super::ask::{Asker, Secret};
use super::door::Client;
use super::key_file::{self, KeyFile};
use super::keys::{PrivateKey, PublicKey};
use super::known_hosts::shown;

/// Keys that are offered to one host: one less than sshd's `MaxAuthTries`, so that
/// the host can still say what it accepts.
const OFFERS_MAX: usize = 5;

/// Rounds of questions that are answered with the password.
const QUESTIONS_MAX: usize = 5;

/// What we prove who we are with.
#[non_exhaustive]
#[derive(Clone)]
pub enum Credential {
    /// A private key in memory.
    Key(Arc<PrivateKey>),
    /// What the user has.
    Own(Own),
}

/// The keys of a user, and perhaps a password.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Private keys, in the order in which they are tried; some may not be there.
    pub files: Vec<PathBuf>,
    /// Keys of the agent are only tried if they are among the files.
    pub files_only: bool,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// The password from the environment or the terminal may be tried at the end.
    pub password: bool,
}

/// One key to offer.
enum Offer {
    Agent(PublicKey, String),
    File(KeyFile),
}

impl Credential {
    /// Whether nobody would be asked for a secret anew.
    pub(super) fn can_be_presented_again(&self) -> bool {
        match self {
            Self::Key(_) => true,
            // A key that was opened stays open.
            Self::Own(own) => !own.password || Secret::Password(String::new()).is_given(),
        }
    }

    /// Logs in as `user`, or says why the host does not let us.
    pub(super) async fn present(
        &self,
        user: &str,
        at: &str,
        handle: &mut Handle<Client>,
        asker: &Asker,
    ) -> Result<(), String> {
        match self {
            Self::Key(key) => present_key(user, key, handle).await,
            Self::Own(own) => {
                let mut login = Login {
                    user,
                    at,
                    handle,
                    asker,
                    tried: Vec::new(),
                    accepted: MethodSet::empty(),
                };
                login.run(own).await
            }
        }
    }
}

async fn present_key(
    user: &str,
    key: &Arc<PrivateKey>,
    handle: &mut Handle<Client>,
) -> Result<(), String> {
    let shown = shown(key.public_key());
    let hash = rsa_hash(key.public_key(), handle).await;
    let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
    match handle.authenticate_publickey(user, key).await {
        Ok(answer) if answer.success() => Ok(()),
        Ok(_) if handle.is_closed() => Err("it closed the connection during the login".into()),
        Ok(_) => Err(format!(
            "it does not accept the key {shown} for user {user}"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// How to sign with an RSA key: never with SHA-1 if the host knows better.
async fn rsa_hash(key: &PublicKey, handle: &Handle<Client>) -> Option<HashAlg> {
    if !key.algorithm().is_rsa() {
        return None;
    }
    match handle.best_supported_rsa_hash().await {
        Ok(Some(hash)) => hash,
        // A host that does not say takes SHA-2 more likely than not.
        _ => Some(HashAlg::Sha512),
    }
}

/// One login, and what has been tried in it.
struct Login<'a> {
    user: &'a str,
    at: &'a str,
    handle: &'a mut Handle<Client>,
    asker: &'a Asker,
    tried: Vec<String>,
    /// What the host has last said that it accepts.
    accepted: MethodSet,
}

/// How an attempt ended.
enum Tried {
    In,
    /// The host takes it and wants more.
    Part,
    No,
}

impl Login<'_> {
    async fn run(&mut self, own: &Own) -> Result<(), String> {
        let none = self.handle.authenticate_none(self.user).await;
        if let Tried::In = self.note(none.map_err(|error| error.to_string()))? {
            return Ok(());
        }
        if self.accepts(MethodKind::PublicKey) {
            if self.offer_keys(own).await? {
                return Ok(());
            }
        } else {
            self.tried.push("no key, because it accepts none".into());
        }
        let by_password =
            self.accepts(MethodKind::Password) || self.accepts(MethodKind::KeyboardInteractive);
        if own.password && by_password && self.give_password().await? {
            return Ok(());
        }
        Err(self.refusal(own))
    }

    fn accepts(&self, method: MethodKind) -> bool {
        self.accepted.contains(&method)
    }

    /// Takes down what the host says to an attempt.
    fn note(&mut self, answer: Result<AuthResult, String>) -> Result<Tried, String> {
        match answer {
            Ok(AuthResult::Success) => Ok(Tried::In),
            Ok(AuthResult::Failure {
                remaining_methods,
                partial_success,
            }) => {
                if self.handle.is_closed() {
                    return Err(self.with_tried("it closed the connection during the login"));
                }
                self.accepted = remaining_methods;
                Ok(if partial_success {
                    Tried::Part
                } else {
                    Tried::No
                })
            }
            Err(error) => Err(self.with_tried(&error)),
        }
    }

    /// Whether a key let us in. Otherwise all has been tried, or enough.
    async fn offer_keys(&mut self, own: &Own) -> Result<bool, String> {
        let mut agent = match &own.agent {
            Some(socket) => self.open_agent(socket).await,
            None => None,
        };
        let offers = self.offers(own, agent.as_mut()).await;
        for (index, offer) in offers.iter().enumerate() {
            if index >= OFFERS_MAX {
                self.tried.push(format!(
                    "{} more were not offered, because hosts hang up after a few: name the right \
                     one with IdentityFile and IdentitiesOnly",
                    offers.len() - index
                ));
                break;
            }
            let tried = match (offer, agent.as_mut()) {
                (Offer::Agent(key, comment), Some(agent)) => {
                    let what = format!("{} {comment} of the agent", shown(key));
                    self.offer_of_agent(key, &what, agent).await?
                }
                (Offer::File(file), _) => self.offer_file(file).await?,
                (Offer::Agent(..), None) => continue,
            };
            match tried {
                Tried::In => return Ok(true),
                Tried::Part => break,
                Tried::No => {}
            }
        }
        Ok(false)
    }

    async fn open_agent(&mut self, socket: &Path) -> Option<AgentClient<UnixStream>> {
        match AgentClient::connect_uds(socket).await {
            Ok(agent) => Some(agent),
            Err(_) => {
                let socket = socket.display();
                self.tried.push(format!("no agent answers at {socket}"));
                None
            }
        }
    }

    /// In `ssh`'s order: named keys that the agent holds, its others, the rest of the
    /// named ones.
    async fn offers(
        &mut self,
        own: &Own,
        agent: Option<&mut AgentClient<UnixStream>>,
    ) -> Vec<Offer> {
        let mut held = Vec::new();
        if let Some(agent) = agent {
            match agent.request_identities().await {
                Ok(identities) => held = identities,
                Err(_) => self.tried.push("the agent names no keys".into()),
            }
        }
        let mut held: Vec<(PublicKey, String)> = held
            .into_iter()
            .filter_map(|identity| match identity {
                AgentIdentity::PublicKey { key, comment } => {
                    Some((key, comment.escape_debug().to_string()))
                }
                // What a certificate says is not understood here; its key may do.
                AgentIdentity::Certificate { .. } => None,
            })
            .collect();
        let mut files = Vec::new();
        for path in &own.files {
            match key_file::look(path) {
                Ok(Some(file)) => files.push(file),
                Ok(None) => {}
                Err(why) => self.tried.push(why),
            }
        }
        let mut offers = Vec::new();
        files.retain(|file| {
            let same = |(key, _): &(PublicKey, String)| {
                file.public
                    .as_ref()
                    .is_some_and(|public| public.key_data() == key.key_data())
            };
            match held.iter().position(same) {
                Some(index) => {
                    let (key, comment) = held.remove(index);
                    offers.push(Offer::Agent(key, comment));
                    false
                }
                None => true,
            }
        });
        if !own.files_only {
            let rest = held.into_iter();
            offers.extend(rest.map(|(key, comment)| Offer::Agent(key, comment)));
        }
        offers.extend(files.into_iter().map(Offer::File));
        if offers.is_empty() {
            self.tried.push("there is no key to offer".into());
        }
        offers
    }

    async fn offer_of_agent(
        &mut self,
        key: &PublicKey,
        what: &str,
        agent: &mut AgentClient<UnixStream>,
    ) -> Result<Tried, String> {
        let hash = rsa_hash(key, self.handle).await;
        let answer = self
            .handle
            .authenticate_publickey_with(self.user, key.clone(), hash, agent)
            .await;
        match answer {
            Ok(answer) => {
                self.tried.push(what.to_owned());
                self.note(Ok(answer))
            }
            // The host goes on waiting for another attempt.
            Err(error) => {
                self.tried
                    .push(format!("{what}, which does not sign with it ({error})"));
                Ok(Tried::No)
            }
        }
    }

    async fn offer_file(&mut self, file: &KeyFile) -> Result<Tried, String> {
        let what = file.path.display().to_string();
        let what = match &file.public {
            Some(public) => format!("{} {what}", shown(public)),
            None => what,
        };
        if let Some(public) = &file.public
            && file.encrypted
            && !key_file::is_open(&file.path)
        {
            // The public half first: who is not let in by it need not be asked.
            let hash = rsa_hash(public, self.handle).await;
            let answer = self
                .handle
                .authenticate_publickey_with(self.user, public.clone(), hash, &mut OnlyAsks)
                .await;
            match answer {
                Ok(answer) => {
                    self.tried.push(what);
                    return self.note(Ok(answer));
                }
                Err(Signing::Wanted) => {}
                Err(Signing::Lost) => return Err(self.with_tried("it closed the connection")),
            }
        }
        let key = match key_file::open(file, self.asker).await {
            Ok(key) => key,
            Err(why) => {
                self.tried.push(why);
                return Ok(Tried::No);
            }
        };
        self.tried.push(what);
        let hash = rsa_hash(key.public_key(), self.handle).await;
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let answer = self.handle.authenticate_publickey(self.user, key).await;
        self.note(answer.map_err(|error| error.to_string()))
    }

    /// Whether the password let us in.
    async fn give_password(&mut self) -> Result<bool, String> {
        let secret = Secret::Password(format!("{}@{}", self.user, self.at));
        let password = match self.asker.ask(&secret).await {
            Ok(password) => password,
            Err(why) => {
                self.tried.push(why);
                return Ok(false);
            }
        };
        if self.accepts(MethodKind::Password) {
            self.tried.push("the password".into());
            let answer = self.handle.authenticate_password(self.user, password).await;
            let tried = self.note(answer.map_err(|error| error.to_string()))?;
            return Ok(matches!(tried, Tried::In));
        }
        self.tried.push("the password, to its question".into());
        let started = self
            .handle
            .authenticate_keyboard_interactive_start(self.user, None)
            .await;
        let mut answer = started.map_err(|error| error.to_string())?;
        for _ in 0..QUESTIONS_MAX {
            let prompts = match answer {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let answers = match &prompts[..] {
                [] => Vec::new(),
                [one] if !one.echo => vec![password.clone()],
                _ => return Err(self.with_tried("it asks for more than a password")),
            };
            let given = self
                .handle
                .authenticate_keyboard_interactive_respond(answers)
                .await;
            answer = given.map_err(|error| error.to_string())?;
        }
        Ok(false)
    }

    fn refusal(&self, own: &Own) -> String {
        let names: Vec<&str> = self.accepted.iter().map(Into::into).collect();
        let mut text = self.with_tried(&format!("it does not let user {} in", self.user));
        text += &format!("; it accepts: {}", names.join(", "));
        let wants_password = names.contains(&"password") || names.contains(&"keyboard-interactive");
        if wants_password && !own.password {
            text += " (a password is only tried when the host's entry says `password = true`)";
        }
        text
    }

    fn with_tried(&self, what: &str) -> String {
        match self.tried.is_empty() {
            true => what.to_owned(),
            false => format!("{what}; tried: {}", self.tried.join("; ")),
        }
    }
}

/// Stands in for a private key that is not open yet: says that the host wants it.
struct OnlyAsks;

/// Why it did not sign.
enum Signing {
    Wanted,
    Lost,
}

impl From<russh::SendError> for Signing {
    fn from(_: russh::SendError) -> Self {
        Self::Lost
    }
}

impl russh::Signer for OnlyAsks {
    type Error = Signing;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        _: Vec<u8>,
    ) -> Result<Vec<u8>, Signing> {
        Err(Signing::Wanted)
    }
}
