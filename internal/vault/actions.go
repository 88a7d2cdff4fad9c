package vault

// Actions as the audit trail names them.
const (
	ActionCreate          = "secret.create"
	ActionRead            = "secret.read"
	ActionVerify          = "secret.verify"
	ActionUpdate          = "secret.update"
	ActionRotate          = "secret.rotate"
	ActionDelete          = "secret.delete"
	ActionRewrap          = "secret.rewrap" // of the vault itself: data keys got a wrapping that they lacked
	ActionList            = "secret.list"
	ActionVersions        = "secret.versions"
	ActionRoleCreate      = "role.create"
	ActionRoleRead        = "role.read"
	ActionRoleList        = "role.list"
	ActionRolePermissions = "role.set_permissions"
	ActionRoleDelete      = "role.delete"
	ActionTokenCreate     = "token.create"
	ActionTokenList       = "token.list"
	ActionTokenRevoke     = "token.revoke"
	ActionTokenRecover    = "token.recover"
	ActionGrants          = "grants.check"   // of the vault itself: the grants in the database don't verify
	ActionKeyring         = "keyring.check"  // of the vault itself: the keyring in the database doesn't verify
	ActionRemac           = "secret.remac"   // of an offline command: a secret's rows got MACs under a new root
	ActionKeyringRotate   = "keyring.rotate" // a new root
	ActionKeyringRetire   = "keyring.retire" // no row names an old root any more
	ActionKeyringFill     = "keyring.fill"   // roots got a wrapping that they lacked
	ActionInit            = "vault.init"
	ActionAuditRead       = "audit.read"
	ActionStatus          = "status.read"
)
