//! The doors: signing in and out, and what a device is told of it.

use edgekeep_shared::cookie;

use crate::message::{Operation, Reply};
use crate::world::{Event, World};

/// What a person does, and on which device.
#[derive(Clone, Debug)]
pub(crate) struct Operating {
    pub(crate) operation: Operation,
    pub(crate) user: u32,
    pub(crate) device: u8,
}

impl World {
    pub(crate) fn sign_in(&mut self, user: u32, device: u8, edge: u32) {
        let header = self.users[user as usize].header(device);
        let presented = self.session_in(&header).into_iter().collect();
        let key = self.number();
        self.door(edge, Operation::Login { user, key, presented }, user, device);
    }

    pub(crate) fn change_password(&mut self, user: u32, device: u8, edge: u32) {
        let header = self.users[user as usize].header(device);
        if self.session_in(&header).is_some() {
            let key = self.number();
            self.door(edge, Operation::ChangePassword { user, key }, user, device);
        }
    }

    pub(crate) fn sign_out(&mut self, user: u32, device: u8, edge: u32) {
        let header = self.users[user as usize].header(device);
        if let Some(session) = self.session_in(&header) {
            self.door(edge, Operation::Logout { user, session }, user, device);
        }
    }

    pub(crate) fn sign_out_everywhere(&mut self, user: u32, edge: u32) {
        self.door(edge, Operation::LogoutEverywhere { user }, user, 0);
    }

    /// The coordinator has answered; the device hears of it.
    pub(crate) fn operated(&mut self, edge: u32, operating: &Operating, reply: &Reply) {
        let Operating { operation, user, device } = operating;
        let names: Vec<String> = self.users[*user as usize].names(*device).map(cookie::clear_cookie).collect();
        let mut told = vec![];
        match (operation, reply) {
            (Operation::Login { .. } | Operation::ChangePassword { .. }, Reply::Token(token)) => {
                told = names;
                let header = format!("{}x={token}", cookie::COOKIE_PREFIX);
                // The cookie's name comes from the session in the proof.
                let session = edgekeep_shared::token::UntrustedToken::parse(token)
                    .ok()
                    .and_then(|proof| proof.verify(&self.ring, self.site).ok())
                    .map(|proof| proof.claims().session_id);
                self.log.note(self.now_us, &("signed in", user, device, edge, header.len()));
                told.extend(session.map(|session| cookie::set_cookie(token, session, 86_400)));
            }
            (Operation::Logout { .. }, Reply::Done) => told = names,
            _ => {}
        }
        let in_us = self.rng.u64(200..2_000);
        self.at(in_us, Event::Client { user: *user, device: *device, told });
    }
}
