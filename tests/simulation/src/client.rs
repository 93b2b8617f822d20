//! People: devices with cookies, as browsers keep them, and what a thief could have copied.

/// So many old cookies of a user are kept for replays.
const KEPT: usize = 6;

/// A user.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// Name and value of each cookie of ours, by device.
    devices: [Vec<(String, String)>; 2],
    /// Everything that was ever set, as a header; the newest last.
    issued: Vec<String>,
}

impl User {
    /// The `Cookie` header of a device.
    #[must_use]
    pub fn header(&self, device: u8) -> String {
        let cookies = &self.devices[usize::from(device % 2)];
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    /// A cookie of earlier.
    #[must_use]
    pub fn old(&self, back: u8) -> Option<String> {
        let back = usize::from(back) + 1;
        self.issued.len().checked_sub(back).and_then(|at| self.issued.get(at)).cloned()
    }

    /// `Set-Cookie` values reach a device.
    pub fn told(&mut self, device: u8, set_cookies: &[String]) {
        let cookies = &mut self.devices[usize::from(device % 2)];
        for set in set_cookies {
            let pair = set.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            cookies.retain(|(other, _)| other != name);
            if value.is_empty() {
                continue;
            }
            cookies.push((name.to_owned(), value.to_owned()));
            if self.issued.last().is_none_or(|last| last != pair) {
                self.issued.push(pair.to_owned());
                if self.issued.len() > KEPT {
                    self.issued.remove(0);
                }
            }
        }
    }

    /// The names of a device's cookies.
    pub fn names(&self, device: u8) -> impl Iterator<Item = &str> {
        self.devices[usize::from(device % 2)].iter().map(|(name, _)| name.as_str())
    }
}
