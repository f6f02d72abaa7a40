//! The variables that a node reported.

use std::fmt;

/// Declares [`Facts`] with one field for each variable, from one list of names.
macro_rules! facts {
    ($($variable:ident)*) => {
        /// The variables that a node reported, one field for each server variable.
        ///
        /// A field is `None` if the node did not report the variable. Values are printable
        /// ASCII: other bytes are escaped as by [`u8::escape_ascii`], and NULL is `NULL`.
        /// `Display` gives the reported variables as `name=value`, separated by spaces.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Facts {
            $(
                #[doc = concat!("The value of `", stringify!($variable), "`.")]
                pub $variable: Option<String>,
            )*
        }

        impl Facts {
            /// Returns the names and values of the variables that the node reported.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
                let variables = [$((stringify!($variable), &self.$variable)),*];
                variables.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
            }

            fn field_mut(&mut self, name: &[u8]) -> Option<&mut Option<String>> {
                $(if name.eq_ignore_ascii_case(stringify!($variable).as_bytes()) {
                    return Some(&mut self.$variable);
                })*
                None
            }
        }
    };
}

facts! {
    wsrep_on wsrep_cluster_status wsrep_connected wsrep_local_state wsrep_ready
    wsrep_local_index wsrep_desync wsrep_reject_queries wsrep_sst_donor_rejects_queries
    read_only super_read_only offline_mode pxc_maint_mode version
}

/// The longest value that is kept, in bytes before escaping. Every healthy value is
/// shorter.
const MAX_VALUE: usize = 64;

/// The longest text of one kept value: every byte escaped, as in `\xFF`. A longer field
/// already holds two values, so that further ones cannot change the verdict.
const MAX_ESCAPED: usize = 4 * MAX_VALUE;

impl Facts {
    /// Records one row of SHOW STATUS or SHOW VARIABLES. `None` is NULL.
    ///
    /// Names match in any case, and unknown ones are ignored. At most 64 bytes of a value
    /// are kept. If rows give a variable different values, the field holds the first few of
    /// them, joined with ` and `, which no rule takes for a healthy value.
    pub fn note(&mut self, name: &[u8], value: Option<&[u8]>) {
        let value = match value {
            Some(value) => value.get(..MAX_VALUE).unwrap_or(value).escape_ascii().to_string(),
            None => "NULL".to_owned(),
        };
        match self.field_mut(name) {
            None => {}
            Some(field @ None) => *field = Some(value),
            Some(Some(earlier)) if *earlier != value && earlier.len() <= MAX_ESCAPED => {
                *earlier = format!("{earlier} and {value}");
            }
            Some(Some(_)) => {}
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, value) in self.iter() {
            write!(f, "{separator}{name}={value}")?;
            separator = " ";
        }
        f.write_str(if separator.is_empty() { "no variables" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_the_reported_variables_escaped() {
        let mut facts = Facts::default();
        assert_eq!(facts.to_string(), "no variables");
        facts.note(b"read_only", Some(b"OFF"));
        facts.note(b"wsrep_on", Some(b"O\n"));
        assert_eq!(facts.to_string(), "wsrep_on=O\\n read_only=OFF");
    }

    #[test]
    fn a_repeated_variable_has_a_bounded_length() {
        let mut facts = Facts::default();
        for value in 0..=u8::MAX {
            facts.note(b"read_only", Some(&[value; MAX_VALUE]));
        }
        assert!(facts.to_string().len() <= "read_only=".len() + MAX_ESCAPED * 2 + " and ".len());
        assert!(facts.to_string().contains(" and "));
    }
}
