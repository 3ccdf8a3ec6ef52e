//! Who may use the control socket.

use std::collections::HashMap;
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

    /// Whose share of the connections a peer's is: the daemon's own user is as good as root.
    pub(super) const fn user(&self, peer: Peer) -> u32 {
        if peer.uid == self.uid { 0 } else { peer.uid }
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

/// How many connections each user has open.
///
/// Root always finds room that others cannot take, and one user cannot shut another out alone.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<u32, usize>);

impl Shares {
    /// Takes one of `most` places for a user, if it may have another.
    pub(super) fn take(&mut self, uid: u32, most: usize) -> Result<(), String> {
        let open: usize = self.0.values().sum();
        let mine = self.0.get(&uid).copied().unwrap_or_default();
        if open >= most {
            return Err(format!("{most} connections are open already; try again"));
        }
        if uid != 0 {
            let others = open - self.0.get(&0).copied().unwrap_or_default();
            let (share, shared) = ((most / 4).max(1), (most - most / 8).max(1));
            if mine >= share {
                return Err(format!(
                    "uid {uid} has {mine} connections open already, its share of {most}; close one"
                ));
            }
            if others >= shared {
                return Err(format!(
                    "{others} connections are open already, and the rest of {most} is root's; \
                     try again"
                ));
            }
        }
        *self.0.entry(uid).or_default() += 1;
        Ok(())
    }

    /// One of a user's connections is closed.
    pub(super) fn give_back(&mut self, uid: u32) {
        if let Some(open) = self.0.get_mut(&uid) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.0.remove(&uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_shut_others_out_nor_all_of_them_root() {
        let mut shares = Shares::default();
        let take = |shares: &mut Shares, uid: u32| {
            (0..99).take_while(|_| shares.take(uid, 64).is_ok()).count()
        };
        assert_eq!(
            (1..=5).map(|uid| take(&mut shares, uid)).collect::<Vec<_>>(),
            [16, 16, 16, 8, 0]
        );
        let refusal = shares.take(5, 64).unwrap_err();
        assert_eq!(
            refusal,
            "56 connections are open already, and the rest of 64 is root's; try again"
        );
        let refusal = shares.take(1, 64).unwrap_err();
        assert_eq!(refusal, "uid 1 has 16 connections open already, its share of 64; close one");
        assert_eq!(take(&mut shares, 0), 8);
        assert_eq!(shares.take(0, 64).unwrap_err(), "64 connections are open already; try again");
        // What root has is not counted against the others.
        (0..2).for_each(|_| shares.give_back(1));
        (0..8).for_each(|_| shares.give_back(0));
        assert_eq!(take(&mut shares, 0), 10);
        (0..2).for_each(|_| shares.give_back(0));
        assert_eq!((take(&mut shares, 5), take(&mut shares, 0)), (2, 0));
        for (uid, open) in [(0, 8), (1, 14), (2, 16), (3, 16), (4, 8), (5, 2)] {
            (0..open).for_each(|_| shares.give_back(uid));
        }
        assert!(shares.0.is_empty());
    }

    #[test]
    fn a_single_place_may_be_anybodys() {
        let mut shares = Shares::default();
        for uid in [0, 7] {
            assert!(shares.take(uid, 1).is_ok());
            assert!(shares.take(uid, 1).is_err());
            shares.give_back(uid);
        }
    }

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
