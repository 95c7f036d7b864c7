//! Lets a running agent read its configuration file anew, and save its policy.

use std::time::Duration;

use mptcp_api::schema::{ErrorCode, Refusal, Reloaded};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Call;
use crate::config::{Edit, NO_FILE, Reloader};
use crate::policy::Policy;
use crate::systemd;

/// Time until the file must have been read or written, and the host must have
/// given what the policy needs.
const FILE: Duration = Duration::from_secs(2);

/// Time until the agent's loop must have answered.
const ANSWER: Duration = Duration::from_secs(12);

/// Reads the file anew, and lets the agent's loop apply what differs. A failure is
/// logged, too.
///
/// # Errors
/// The file is wrong, or its policy cannot be used; the settings stay. Or the
/// change has failed, and the message says what is in force.
pub async fn reload(reloader: &Reloader, agent: &mpsc::Sender<Call>) -> Result<Reloaded, Refusal> {
    systemd::reloading();
    let done = try_reload(reloader, agent).await;
    systemd::reloaded();
    if let Err(refusal) = &done {
        tracing::error!("the configuration is not reloaded: {}", refusal.message);
    }
    done
}

async fn try_reload(reloader: &Reloader, agent: &mpsc::Sender<Call>) -> Result<Reloaded, Refusal> {
    if reloader.file().is_none() {
        return Err(Refusal::new(ErrorCode::Refused, NO_FILE));
    }
    let own = reloader.clone();
    let fresh = within(move || own.fresh()).await?;
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        let fresh = Box::new(fresh);
        agent.send(Call::Reload { fresh, reply }).await.ok()?;
        answer.await.ok()
    };
    let answer = timeout(ANSWER, exchange).await.ok().flatten();
    let silent = || Refusal::new(ErrorCode::Failed, "the agent does not answer");
    answer.ok_or_else(silent)?
}

/// Prepares to write the policy into the file.
///
/// # Errors
/// It cannot be saved; nothing has changed.
pub async fn prepare_save(reloader: &Reloader, policy: &Policy) -> Result<Edit, Refusal> {
    let (reloader, policy) = (reloader.clone(), policy.clone());
    within(move || reloader.edit(&policy)).await
}

/// Writes the policy, which is in force, into the file.
///
/// # Errors
/// The file cannot be written, and is as it was.
pub async fn save(edit: Edit) -> Result<(), Refusal> {
    let done = within(move || edit.write()).await;
    done.map_err(|refusal| {
        let why = format!("the policy is in force, but not saved: {}", refusal.message);
        Refusal::new(ErrorCode::Failed, &why)
    })
}

/// Does `work` on a thread of its own, since a file system may block for ever.
async fn within<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let refused = |why: String| Refusal::new(ErrorCode::Refused, &why);
    let failed = |why: String| Refusal::new(ErrorCode::Failed, &why);
    let (sender, result) = oneshot::channel();
    let work = move || drop(sender.send(work()));
    let thread = std::thread::Builder::new().name("config".into());
    thread
        .spawn(work)
        .map_err(|error| failed(format!("cannot start a thread: {error}")))?;
    match timeout(FILE, result).await {
        Ok(Ok(done)) => done.map_err(|error| refused(format!("{error:#}"))),
        Ok(Err(_)) => Err(failed("reading the configuration failed".to_owned())),
        Err(_) => Err(refused(format!(
            "the configuration file, or what the policy needs of the host, cannot be read within \
             {FILE:?}: is it on a file system that does not answer?"
        ))),
    }
}
