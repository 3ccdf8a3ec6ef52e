//! Who may use the control socket.

use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group, Uid, User, geteuid};

/// The process at the other end, as the kernel vouches (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Peer> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        Ok(Peer { uid: credentials.uid(), gid: credentials.gid() })
    }
}

/// Root, one user, and the members of one group.
#[derive(Debug, Clone)]
pub(super) struct Access {
    uid: u32,
    group: Option<(String, Gid)>,
}

impl Access {
    /// For the daemon's own user and the members of `group`, which must exist.
    pub(super) fn new(group: Option<&str>) -> io::Result<Access> {
        let group = match group {
            None => None,
            Some(name) => match Group::from_name(name)? {
                Some(group) => Some((name.to_owned(), group.gid)),
                None => {
                    return Err(io::Error::other(format!(
                        "group {name:?} does not exist; create it with `groupadd --system {name}` \
                         or change control.group"
                    )));
                }
            },
        };
        Ok(Access { uid: geteuid().as_raw(), group })
    }

    /// The group's id.
    pub(super) fn gid(&self) -> Option<Gid> {
        self.group.as_ref().map(|(_, gid)| *gid)
    }

    /// Whether `peer` may use the socket; the error says who may.
    pub(super) fn check(&self, peer: Peer) -> Result<(), String> {
        if peer.uid == 0 || peer.uid == self.uid || self.in_group(peer) {
            return Ok(());
        }
        let who = match &self.group {
            Some((name, _)) => format!("root and members of group {name:?} may"),
            None => "only root may; set control.group to let a group's members".to_owned(),
        };
        Err(format!("uid {} may not use the control socket: {who}", peer.uid))
    }

    /// By its primary group, or listed as a member: the kernel passes no supplementary groups on.
    fn in_group(&self, peer: Peer) -> bool {
        let Some((name, gid)) = &self.group else { return false };
        if peer.gid == gid.as_raw() {
            return true;
        }
        let members = Group::from_name(name).ok().flatten().map(|g| g.mem).unwrap_or_default();
        let user = User::from_uid(Uid::from_raw(peer.uid)).ok().flatten();
        user.is_some_and(|user| members.contains(&user.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_own_user_and_group_members_may() {
        let access = Access { uid: 77, group: Some(("nogroup".to_owned(), Gid::from_raw(4242))) };
        for (uid, gid, allowed) in
            [(0, 1, true), (77, 1, true), (1_000_077, 4242, true), (1_000_077, 1, false)]
        {
            assert_eq!(access.check(Peer { uid, gid }).is_ok(), allowed, "{uid}:{gid}");
        }
        let closed = Access { uid: 77, group: None };
        let refusal = closed.check(Peer { uid: 1_000_077, gid: 4242 }).unwrap_err();
        assert!(refusal.contains("control.group"), "{refusal}");
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error_with_a_way_out() {
        let error = Access::new(Some("no-such-group-here")).unwrap_err().to_string();
        assert!(error.contains("groupadd --system no-such-group-here"), "{error}");
    }
}
