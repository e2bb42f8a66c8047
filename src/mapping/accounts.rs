//! Which accounts of Directus are members: those without admin access, and without access to the Studio unless the
//! mapping names their role. In: what the roles and policies of Directus allow. Out: the accounts that are left out, so
//! that nobody who edits a member elsewhere edits an administrator. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

/// Directus's table of accounts.
pub(crate) const ACCOUNTS: &str = "directus_users";
/// Its column for the role: who can set it, can make an administrator.
pub(crate) const ROLE: &str = "role";
/// The address to which a new password is sent.
pub(crate) const LOGIN: &str = "email";

/// The accounts that are left out, as the capture last knew them. It judges rows by them, and pushes write to none of
/// them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccountGuard(Arc<RwLock<Option<Accounts>>>);

impl AccountGuard {
    pub(crate) fn set(&self, accounts: Accounts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(accounts);
    }

    pub(crate) fn get(&self) -> Option<Accounts> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the account with this id may be written to; `None`: the rule is not known yet.
    pub(crate) fn may_write(&self, id: &str) -> Option<bool> {
        let accounts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        accounts.as_ref().map(|accounts| !accounts.leaves_out(id))
    }

    /// What somebody is called whose account is left out: they are no member whose name canonical knows.
    pub(crate) fn name_of(&self, id: &str) -> Option<String> {
        let accounts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        accounts.as_ref()?.names.get(id).cloned()
    }

    /// Judges an account's row, and remembers the verdict for pushes. Before the rule is known, nobody is a member.
    pub(crate) fn admits(&self, id: &str, role: Option<&str>) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(accounts) = known.as_ref() else { return false };
        let is_member = accounts.admits(id, role);
        if is_member != accounts.leaves_out(id) {
            return is_member;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(accounts) = known.as_mut() {
            if is_member {
                accounts.members_of_roles.remove(id);
            } else {
                accounts.members_of_roles.insert(id.to_owned());
            }
        }
        is_member
    }
}

/// What an account may do by one of its roles or policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) is_admin: bool,
    /// May open the Studio.
    pub(crate) is_app: bool,
}

/// A role, with the policies of its parents among its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleReach {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) reach: Reach,
    /// It is the role that `plait setup directus` has made for Plait's own account.
    pub(crate) is_own: bool,
}

/// The accounts that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    /// Role id → why its accounts are left out, in words.
    roles: BTreeMap<String, String>,
    /// Account id → why it is left out whatever its role.
    users: BTreeMap<String, String>,
    /// Ids of all accounts that are left out, as far as they were counted.
    members_of_roles: BTreeSet<String>,
    /// Account id → the name of who has it, for what they do to the rows that are mirrored.
    names: BTreeMap<String, String>,
}

impl Accounts {
    /// Judges roles, and accounts with policies of their own.
    pub(crate) fn new(
        roles: &[RoleReach],
        users: &[(String, Reach)],
        member_roles: &[String],
    ) -> Self {
        let mut accounts = Self::default();
        for role in roles {
            let is_named = member_roles.iter().any(|name| *name == role.name || *name == role.id);
            let why = match role.reach {
                _ if role.is_own => "it is Plait's own",
                Reach { is_admin: true, .. } => "it has admin access",
                Reach { is_app: true, .. } if !is_named => {
                    "it may open the Studio, and `member_roles` does not name it"
                }
                _ => continue,
            };
            accounts.roles.insert(role.id.clone(), format!("role `{}`: {why}", role.name));
        }
        for (user, reach) in users {
            let why = match reach {
                Reach { is_admin: true, .. } => "a policy of its own gives it admin access",
                Reach { is_app: true, .. } => "a policy of its own opens the Studio to it",
                _ => continue,
            };
            accounts.users.insert(user.clone(), why.to_owned());
        }
        accounts
    }

    /// With Plait's own account, which is left out whatever its role.
    pub(crate) fn with_own(mut self, own: &str) -> Self {
        self.users.insert(own.to_owned(), String::from("it is Plait's own account"));
        self
    }

    /// With the ids of the accounts that have one of the roles that are left out.
    pub(crate) fn with_members(mut self, ids: impl IntoIterator<Item = String>) -> Self {
        self.members_of_roles = ids.into_iter().collect();
        self
    }

    /// With what those who have the accounts are called, by the account's id.
    pub(crate) fn with_names(mut self, names: impl IntoIterator<Item = (String, String)>) -> Self {
        self.names = names.into_iter().collect();
        self
    }

    /// Whether the rule is the same, whoever has the roles.
    pub(crate) fn is_same_rule(&self, other: &Self) -> bool {
        self.roles == other.roles && self.users == other.users
    }

    /// Whether an account with this role is a member.
    pub(crate) fn admits(&self, id: &str, role: Option<&str>) -> bool {
        !self.users.contains_key(id) && role.is_none_or(|role| !self.roles.contains_key(role))
    }

    /// Whether the account with this id is known to be left out.
    pub(crate) fn leaves_out(&self, id: &str) -> bool {
        self.users.contains_key(id) || self.members_of_roles.contains(id)
    }

    /// The roles whose accounts are left out.
    pub(crate) fn role_ids(&self) -> Vec<&str> {
        self.roles.keys().map(String::as_str).collect()
    }

    /// The accounts that are left out whatever their role.
    pub(crate) fn user_ids(&self) -> Vec<&str> {
        self.users.keys().map(String::as_str).collect()
    }

    /// How many accounts are left out.
    pub(crate) fn count(&self) -> usize {
        let own = self.users.keys().filter(|id| !self.members_of_roles.contains(*id)).count();
        own + self.members_of_roles.len()
    }

    /// For people: what is left out, and why.
    pub(crate) fn words(&self) -> String {
        let mut parts: Vec<String> = self.roles.values().cloned().collect();
        let mut whys: BTreeMap<&str, usize> = BTreeMap::new();
        for why in self.users.values() {
            *whys.entry(why).or_default() += 1;
        }
        for (why, count) in whys {
            parts.push(match count {
                1 => format!("1 account: {why}"),
                count => format!("{count} accounts: {why}"),
            });
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::{AccountGuard, Accounts, Reach, RoleReach};

    fn role(id: &str, name: &str, is_admin: bool, is_app: bool) -> RoleReach {
        let reach = Reach { is_admin, is_app };
        RoleReach { id: id.into(), name: name.into(), reach, is_own: false }
    }

    #[test]
    fn accounts_beyond_members_are_left_out_whatever_the_mapping_names() {
        let roles = [
            role("r-admin", "Administrator", true, true),
            role("r-staff", "Permanents", false, true),
            role("r-member", "Membres", false, true),
            role("r-plain", "Site", false, false),
            RoleReach { is_own: true, ..role("r-plait", "Plait", false, false) },
        ];
        let admin = Reach { is_admin: true, is_app: false };
        let named = ["Membres".to_owned(), "r-admin".to_owned()];
        let accounts =
            Accounts::new(&roles, &[("u-own".into(), admin)], &named).with_own("u-plait");
        for (id, role, is_member) in [
            ("u1", None, true),
            ("u1", Some("r-plain"), true),
            ("u1", Some("r-member"), true),
            ("u1", Some("r-staff"), false),
            ("u1", Some("r-admin"), false),
            ("u1", Some("r-plait"), false),
            ("u-own", Some("r-member"), false),
            ("u-plait", None, false),
        ] {
            assert_eq!(accounts.admits(id, role), is_member, "{id} {role:?}");
        }
        let accounts = accounts.with_members(["u9".to_owned()]);
        assert!(accounts.leaves_out("u9") && accounts.leaves_out("u-own"));
        assert!(!accounts.leaves_out("u1"));
        assert_eq!(accounts.count(), 3);
        let guard = AccountGuard::default();
        assert!(!guard.admits("u1", None) && guard.may_write("u1").is_none());
        guard.set(accounts.clone());
        // As the rows of the log show them.
        assert!(!guard.admits("u1", Some("r-staff")) && guard.may_write("u1") == Some(false));
        assert!(guard.admits("u1", Some("r-member")) && guard.may_write("u1") == Some(true));
        assert!(accounts.words().contains("role `Administrator`: it has admin access"));
        let named = accounts.clone().with_names([("u9".to_owned(), "Anne Roux".to_owned())]);
        assert!(accounts.is_same_rule(&named), "a name is no rule");
        guard.set(named);
        assert_eq!(guard.name_of("u9").as_deref(), Some("Anne Roux"));
        assert_eq!(guard.name_of("u1"), None);
    }
}
