//! SIGHUP: the configuration file is applied again, in a thread of its own, so that the thread
//! that waits for signals obeys the next one whatever the file's file system does.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::control::Controller;

/// Reloads on demand. Dropping it waits for a reload in progress; [`Controller::stop`] shortens
/// that.
#[derive(Debug)]
pub(super) struct Reloader {
    /// Room for one: a demand that comes while another waits is the same demand.
    demands: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    pub(super) fn start(controller: Arc<Controller>) -> io::Result<Reloader> {
        let (demands, queue) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || reload_on(&queue, &controller))?;
        Ok(Reloader { demands: Some(demands), thread: Some(thread) })
    }

    /// Has the file read after now. Does not wait.
    pub(super) fn demand(&self) {
        if let Some(demands) = &self.demands {
            let _ = demands.try_send(());
        }
    }
}

fn reload_on(demands: &Receiver<()>, controller: &Controller) {
    for () in demands {
        match controller.reload() {
            Ok(applied) => log::info!(
                "{}: reloaded, {} change(s), generation {}",
                controller.file().display(),
                applied.changes.len(),
                applied.generation
            ),
            Err(error) => log::error!("{}: reload: {error}", controller.file().display()),
        }
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.demands = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of reloads panicked");
        }
    }
}
