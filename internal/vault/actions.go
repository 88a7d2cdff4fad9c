package vault

// Actions as the audit trail names them.
const (
	ActionCreate          = "secret.create"
	ActionRead            = "secret.read"
	ActionVerify          = "secret.verify"
	ActionUpdate          = "secret.update"
	ActionRotate          = "secret.rotate"
	ActionDelete          = "secret.delete"
	ActionRotationPrepare = "rotation.prepare"    // of a rotator, as the next ones: a new version is pending
	ActionRotationApply   = "rotation.apply"      // a value is about to be handed to the target
	ActionRotationFail    = "rotation.fail"       // what the target refused, or dead
	ActionRotationAbandon = "rotation.abandon"    // a pending value that the target will not take, or that was overtaken
	ActionRotationSkip    = "rotation.skip"       // a window passed unused
	ActionRotationQueue   = "rotation.queue"      // somebody asked for a rotation that a rotator makes
	ActionRotationEnd     = "rotation.end"        // a job ended without a rotation
	ActionRotationProbe   = "rotation.probe"      // whether the target takes the current value has changed
	ActionRotationFetch   = "rotation.fetch"      // by a webhook's receiver, once
	ActionRotationPause   = "rotation.pause"      // of one secret
	ActionRotationResume  = "rotation.resume"     // likewise
	ActionPauseAll        = "rotation.pause_all"  // of all secrets
	ActionResumeAll       = "rotation.resume_all" // likewise
	ActionRotationRetry   = "rotation.retry"
	ActionRotationCancel  = "rotation.cancel"
	ActionRotationList    = "rotation.list"
	ActionRotationRead    = "rotation.read"
	ActionRollback        = "secret.rollback"
	ActionPurge           = "secret.purge"  // of a rotator: versions whose grace has ended are gone
	ActionRewrap          = "secret.rewrap" // of a rotator: data keys were wrapped again, by the master keys as they are now
	ActionRewrapRequest   = "rewrap.request"
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
	ActionKeyringFill     = "keyring.fill"   // roots were wrapped again, by the master keys as they are now
	ActionInit            = "vault.init"
	ActionAuditRead       = "audit.read"
	ActionStatus          = "status.read"
)
