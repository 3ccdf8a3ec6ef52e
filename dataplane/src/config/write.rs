//! Writing a configuration back.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::model::Config;
use super::read;

/// What saving did beside writing the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The file written; symbolic links are followed.
    pub file: PathBuf,
    /// Where the file's earlier text went, if it was worth keeping.
    pub backup: Option<PathBuf>,
}

impl Config {
    /// The configuration as a file: every table and key in a fixed order, defaults included.
    /// Comments and number formats of an earlier file are not kept.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| {
            // Only maps with keys that are no strings and values without a TOML type fail, and
            // `Config` has neither; a test writes every key.
            log::error!("the configuration cannot be written as TOML: {e}");
            String::new()
        })
    }

    /// Replaces `path` by this configuration, at once or not at all.
    ///
    /// The earlier text is kept beside it as `….bak` when it has something that is lost here,
    /// such as comments; the backup of a hand-written file is not overwritten by a mere save.
    pub fn save(&self, path: &Path) -> io::Result<Saved> {
        let text = self.to_toml();
        if text.is_empty() {
            return Err(io::Error::other("the configuration cannot be written as TOML"));
        }
        let file = if path.exists() { fs::canonicalize(path)? } else { path.to_owned() };
        let like = fs::metadata(&file).ok();
        // A pipe would be waited for, and a device would be replaced by a file.
        like.as_ref().map_or(Ok(()), |found| read::refuse_irregular(found.file_type()))?;
        let earlier = read::regular(&file).ok();
        let mut backup = None;
        if let Some(earlier) = earlier.filter(|earlier| !is_plain(earlier)) {
            let bak = beside(&file, ".bak");
            replace(&bak, &earlier, like.as_ref())?;
            backup = Some(bak);
        }
        replace(&file, &text, like.as_ref())?;
        Ok(Saved { file, backup })
    }
}

/// Whether `text` is what a save would have written, so that nothing is lost without it.
fn is_plain(text: &str) -> bool {
    Config::parse(text, "").is_ok_and(|config| config.to_toml() == text)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes a new file and renames it over `path`. It gets the mode and, where that is allowed, the
/// owner of the file it is like; else nobody but owner and group may read it, for it may hold the
/// key of the hash schedulers.
fn replace(path: &Path, text: &str, like: Option<&Metadata>) -> io::Result<()> {
    let temporary = beside(path, &format!(".{}.tmp", std::process::id()));
    let written = write_new(&temporary, text, like).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The rename itself survives a power cut only once the directory is on disk.
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_new(path: &Path, text: &str, like: Option<&Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(like) = like {
        // The daemon has no right to give files away.
        if let Err(error) = fchown(&file, Some(like.uid()), Some(like.gid())) {
            log::warn!(
                "{}: cannot be given to uid {} and gid {} as before: {error}",
                path.display(),
                like.uid(),
                like.gid()
            );
        }
    }
    let mode = like.map_or(0o640, |like| like.mode() & 0o777);
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
