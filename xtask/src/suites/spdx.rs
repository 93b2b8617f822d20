//! Licence expressions (SPDX), as far as Cargo's packages use them: `AND`, `OR`, `WITH`, parentheses, and the old `/`.

/// The expression can be satisfied with licences that `allowed` allows. One that cannot be read cannot.
pub fn satisfied(expression: &str, allowed: &impl Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { tokens: &tokens, allowed };
    let verdict = parser.any();
    verdict == Some(true) && parser.tokens.is_empty()
}

struct Parser<'a, F> {
    tokens: &'a [&'a str],
    allowed: &'a F,
}

impl<F: Fn(&str) -> bool> Parser<'_, F> {
    fn next_is(&mut self, token: &str) -> bool {
        match self.tokens.split_first() {
            Some((first, rest)) if *first == token => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn any(&mut self) -> Option<bool> {
        let mut verdict = self.all()?;
        while self.next_is("OR") {
            verdict |= self.all()?;
        }
        Some(verdict)
    }

    fn all(&mut self) -> Option<bool> {
        let mut verdict = self.one()?;
        while self.next_is("AND") {
            verdict &= self.one()?;
        }
        Some(verdict)
    }

    fn one(&mut self) -> Option<bool> {
        if self.next_is("(") {
            let verdict = self.any()?;
            return self.next_is(")").then_some(verdict);
        }
        let (first, rest) = self.tokens.split_first()?;
        if ["OR", "AND", "WITH", ")"].contains(first) {
            return None;
        }
        self.tokens = rest;
        if self.next_is("WITH") {
            let (exception, rest) = self.tokens.split_first()?;
            self.tokens = rest;
            // A licence with an exception asks for no more than the licence.
            return Some((self.allowed)(&format!("{first} WITH {exception}")) || (self.allowed)(first));
        }
        Some((self.allowed)(first))
    }
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    #[test]
    fn expressions() {
        let allowed = |id: &str| ["MIT", "Apache-2.0", "Unicode-3.0"].contains(&id);
        for yes in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0 AND MIT OR Apache-2.0",
        ] {
            assert!(satisfied(yes, &allowed), "{yes}");
        }
        for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 AND (MIT OR Apache-2.0)", "(MIT", "MIT MIT", "OR"] {
            assert!(!satisfied(no, &allowed), "{no}");
        }
    }
}
