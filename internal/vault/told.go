package vault

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// told is what the audit trail tells that the tables hold: of each secret, role and token the last change. It keeps some hundred
// bytes of each, whatever their number of records. Records of one secret are ordered by the revision that they made, those of grants by
// the epoch, which no clock can reorder. Each is made by one change: two of one number say that an older state was put back between.
type told struct {
	since     time.Time // what is older went with its day's partition; zero if nothing did
	secrets   map[uuid.UUID]toldSecret
	roles     map[uuid.UUID]toldRole
	tokens    map[uuid.UUID]toldToken
	epoch     int64 // the highest that a record tells of
	discarded int64 // the epoch at which all grants before were given up; 0 is never
	vague     int64 // records of changes that don't tell what they left
	epochs    epochs
	control   toldControl
	keyring   change // the last one that a record of the keyring told of: it writes one for each root
}

type toldSecret struct {
	revision, version                     int64
	made                                  made // by proven records
	name                                  string
	deleted, unproven, present, remaining bool // the last two: the tables have it, or what remains of it
}

type toldRole struct {
	epoch                   int64
	name                    string
	permissions             [32]byte
	isAdmin, deleted, found bool
	unproven                bool
}

type toldToken struct {
	epoch             int64
	roleID            uuid.UUID
	name              string
	revoked, unproven bool
}

func newTold() *told {
	return &told{secrets: map[uuid.UUID]toldSecret{}, roles: map[uuid.UUID]toldRole{}, tokens: map[uuid.UUID]toldToken{}}
}

// changeFacts is what the detail of a change's record tells; docs/formats.md lists it.
type changeFacts struct {
	SecretID    uuid.UUID `json:"secret_id"`
	Revision    int64     `json:"revision"`
	Epoch       int64     `json:"epoch"`
	TokenID     uuid.UUID `json:"token_id"`
	RoleID      uuid.UUID `json:"role_id"`
	IsAdmin     bool      `json:"is_admin"`
	Permissions string    `json:"permissions_sha256"`
	Token       string    `json:"token"`
	Role        string    `json:"role"`
	Discarded   bool      `json:"discarded_grants"`
}

// hear takes up a record. One that isn't proven excuses what the tables hold, and accuses nothing.
func (t *told) hear(r *db.RecordsRow, proven bool) {
	if r.Outcome != outcomeOK && (r.Action != ActionUpdate || r.Outcome != outcomeUnchanged) {
		return
	}
	switch r.Action {
	case ActionRoleCreate, ActionRolePermissions, ActionRoleDelete,
		ActionTokenCreate, ActionTokenRevoke, ActionTokenRecover, ActionKeyringRotate, ActionKeyringRetire, ActionPauseAll, ActionResumeAll:
	default:
		if !changesSecret(r.Action) {
			return
		}
	}
	var facts changeFacts
	if json.Unmarshal(r.Detail, &facts) != nil {
		t.vague++
		return
	}
	if proven && facts.Epoch > 0 {
		t.hearEpoch(r, facts.Epoch)
	}
	switch r.Action {
	case ActionPauseAll, ActionResumeAll:
		t.hearControl(r, &facts, proven)
	case ActionKeyringRotate, ActionKeyringRetire: // they raise the epoch, and leave the grants as they are
	case ActionRoleCreate, ActionRolePermissions, ActionRoleDelete:
		t.hearRole(r, &facts, proven)
	default:
		if changesSecret(r.Action) {
			t.hearSecret(r, &facts, proven)
			return
		}
		t.hearToken(r, &facts, proven)
		if facts.Permissions != "" {
			t.hearRole(r, &facts, proven)
		}
		if facts.Discarded && proven {
			t.discarded = max(t.discarded, facts.Epoch)
		}
	}
}

// changesSecret tells whether what is recorded so, if it succeeded, left a secret at another revision.
func changesSecret(action string) bool {
	switch action {
	case ActionCreate, ActionUpdate, ActionRotate, ActionRollback, ActionRewrap, ActionRemac, ActionDelete, ActionPurge, ActionRotationPrepare,
		ActionRotationApply, ActionRotationAbandon, ActionRotationSkip, ActionRotationPause, ActionRotationResume, ActionRotationQueue, ActionRotationCancel:
		return true
	}
	return false
}

// hearEpoch counts an epoch that a change of the grants or the keyring made.
func (t *told) hearEpoch(r *db.RecordsRow, epoch int64) {
	t.epoch = max(t.epoch, epoch)
	if r.Action == ActionKeyringRotate || r.Action == ActionKeyringRetire {
		this := change{r.StreamID, epoch}
		if this == t.keyring {
			return
		}
		t.keyring = this
	}
	t.epochs.hear(epoch)
}

func (t *told) hearSecret(r *db.RecordsRow, facts *changeFacts, proven bool) {
	if facts.SecretID == uuid.Nil || facts.Revision == 0 || r.SecretName == nil || r.Version == nil {
		t.vague++
		return
	}
	before, known := t.secrets[facts.SecretID]
	if proven {
		before.made.hear(facts.Revision)
	}
	if known && before.revision >= facts.Revision {
		t.secrets[facts.SecretID] = before
		return
	}
	next := toldSecret{
		revision: facts.Revision, version: *r.Version, name: before.name, deleted: r.Action == ActionDelete, unproven: !proven, made: before.made,
	}
	if !known {
		next.name = *r.SecretName // kept once: a secret's name never changes
	}
	t.secrets[facts.SecretID] = next
}

func (t *told) hearRole(r *db.RecordsRow, facts *changeFacts, proven bool) {
	digest, err := hex.DecodeString(facts.Permissions)
	if err != nil || len(digest) != 32 || facts.RoleID == uuid.Nil || facts.Epoch == 0 {
		t.vague++
		return
	}
	if before, known := t.roles[facts.RoleID]; known && before.epoch >= facts.Epoch {
		return
	}
	t.roles[facts.RoleID] = toldRole{
		epoch: facts.Epoch, name: facts.Role, permissions: [32]byte(digest), isAdmin: facts.IsAdmin,
		deleted: r.Action == ActionRoleDelete, unproven: !proven,
	}
}

func (t *told) hearToken(r *db.RecordsRow, facts *changeFacts, proven bool) {
	if facts.TokenID == uuid.Nil || facts.RoleID == uuid.Nil || facts.Epoch == 0 {
		t.vague++
		return
	}
	token, known := t.tokens[facts.TokenID]
	if !known {
		token = toldToken{roleID: facts.RoleID, name: facts.Token}
	}
	if facts.Epoch > token.epoch {
		token.epoch, token.unproven = facts.Epoch, !proven
	}
	token.revoked = token.revoked || r.Action == ActionTokenRevoke && proven
	t.tokens[facts.TokenID] = token
}
