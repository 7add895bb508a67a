//! Removing what nobody needs any more, beside the work that goes on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::files;

/// A thread that removes trees of one folder, begun with the first and waited for when the store is closed. What it
/// does not get to, because the process is killed, collection removes.
#[derive(Default)]
pub(crate) struct Sweeper {
    thread: Mutex<Option<(Sender<OsString>, JoinHandle<()>)>>,
}

impl Sweeper {
    /// Has a tree removed. Gives it back where there is no thread to do so.
    pub(crate) fn remove<'a>(&self, folder: &Path, path: &'a Path) -> Result<(), &'a Path> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (sender, receiver) = channel();
            let folder = folder.to_owned();
            let spawned =
                std::thread::Builder::new().name("sweeper".to_owned()).spawn(move || sweep(folder, &receiver));
            *thread = Some((sender, spawned.map_err(|_| path)?));
        }
        match (&*thread, path.file_name()) {
            (Some((sender, _)), Some(name)) => sender.send(name.to_owned()).map_err(|_| path),
            _ => Err(path),
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = thread {
            drop(sender);
            // What went wrong stays for collection.
            let _ = thread.join();
        }
    }
}

fn sweep(folder: PathBuf, names: &Receiver<OsString>) {
    let Ok(fd) = files::open_folder(&folder) else { return };
    while let Ok(name) = names.recv() {
        // What cannot be removed now is reclaimed by collection.
        let _ = files::remove_tree(&fd, &name);
    }
}
