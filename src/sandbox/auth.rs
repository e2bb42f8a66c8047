//! Tokens: who calls, what the token may do, and where.

use std::collections::BTreeSet;

use super::model::{State, Token, User};
use super::reply::{Answer, forbidden_or_unknown, not_permitted, unauthenticated};

/// A person's token: every scope, every base, creator.
pub const OWNER_TOKEN: &str =
    "patPlaitOwner0001.0000000000000000000000000000000000000000000000000000000000000001";
/// The mirror's own token: of the dedicated user "Plait", every scope a mirror needs.
pub const MIRROR_TOKEN: &str =
    "patPlaitMirror001.0000000000000000000000000000000000000000000000000000000000000002";
/// May read, and nothing else.
pub const READER_TOKEN: &str =
    "patPlaitReader001.0000000000000000000000000000000000000000000000000000000000000003";

pub(super) const SCOPES: [&str; 9] = [
    "data.records:read",
    "data.records:write",
    "data.recordComments:read",
    "data.recordComments:write",
    "schema.bases:read",
    "schema.bases:write",
    "webhook:manage",
    "workspacesAndBases:read",
    "user.email:read",
];

/// Who makes a call.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) user: String,
    pub(super) scopes: BTreeSet<String>,
    pub(super) bases: Option<BTreeSet<String>>,
    pub(super) role: String,
    pub(super) oauth: Option<String>,
}

impl Caller {
    pub(super) fn need_scope(&self, scope: &str) -> Answer<()> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(forbidden_or_unknown()) }
    }

    /// Refuses a role below `role`.
    pub(super) fn need_role(&self, role: &str) -> Answer<()> {
        let rank = |role: &str| {
            ["none", "read", "comment", "edit", "create"].iter().position(|known| *known == role)
        };
        if rank(&self.role) >= rank(role) { Ok(()) } else { Err(not_permitted()) }
    }

    pub(super) fn may_enter(&self, base_id: &str) -> bool {
        self.bases.as_ref().is_none_or(|bases| bases.contains(base_id))
    }
}

impl State {
    /// Who calls, by the `Authorization` header.
    pub(super) fn caller(&self, authorization: Option<&str>) -> Answer<Caller> {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer ")).map(str::trim);
        let token =
            token.and_then(|token| self.world.tokens.get(token)).ok_or_else(unauthenticated)?;
        Ok(Caller {
            user: token.user.clone(),
            scopes: token.scopes.clone(),
            bases: token.bases.clone(),
            role: token.role.clone(),
            oauth: token.oauth.clone(),
        })
    }

    pub(super) fn add_user(&mut self, id: &str, name: &str, email: &str) {
        let user = User { id: id.into(), name: name.into(), email: email.into() };
        self.world.users.insert(id.into(), user);
    }

    pub(super) fn add_token(&mut self, token: Token) {
        self.world.tokens.insert(token.token.clone(), token);
    }
}

/// A personal access token with all scopes.
pub(super) fn full_token(token: &str, user: &str) -> Token {
    Token {
        token: token.into(),
        user: user.into(),
        scopes: SCOPES.iter().map(ToString::to_string).collect(),
        bases: None,
        role: "create".into(),
        oauth: None,
    }
}
