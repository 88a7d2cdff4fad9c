package model

// act is what happens to a name, or is asked of it.
type act string

const (
	actCreate  act = "create"
	actUpdate  act = "update" // or rotate
	actDelete  act = "delete"
	actRead    act = "read"
	actVersion act = "read of a version"
	actVerify  act = "verify"
	actPass    act = "grace passes"

	// By hand.
	actBreak    act = "edit: a version no longer opens"
	actMend     act = "edit: it opens again"
	actHide     act = "edit: a version's row is gone or says that it isn't valid"
	actShow     act = "edit: it is back"
	actGrace    act = "edit: a superseded version ends at another time"
	actRollBack act = "edit: an old row is put back as the current one"
	actPoint    act = "edit: the secret's row points to another version"
	actAway     act = "edit: the secret is renamed"
	actBack     act = "edit: it has its name again"

	// Of tokens and of roles' permissions.
	actOn  act = "granted"
	actOff act = "taken away"
	actAsk act = "asked"
)

// result is what the client was told.
type result string

const (
	done      result = "done"
	shown     result = "shown"     // a value, or that the client has it
	missing   result = "missing"   // no such secret, or no such valid version
	damaged   result = "damaged"   // it doesn't verify
	matched   result = "matched"   // by verify
	unmatched result = "unmatched" // by verify
	exists    result = "exists"
	tooMany   result = "too many valid versions"
	allowed   result = "allowed"
	refused   result = "refused"
)

// maxValid is how many versions of one secret may be valid at once.
const maxValid = 16

// next says what becomes of a secret by an event, and whether the event can happen in this state at all.
func (s state) next(e *event) (state, bool) {
	switch e.act {
	case actCreate:
		if e.got == exists {
			return s, s.present()
		}
		return state{there: true, current: 1, versions: []version{{value: e.value}}, passed: s.passed}, !s.present()
	case actUpdate:
		return s.update(e)
	case actDelete:
		if e.got == missing {
			return s, !s.present()
		}
		return state{passed: s.passed}, s.present()
	case actRead, actVersion:
		return s.read(e)
	case actVerify:
		return s.verify(e)
	case actPass:
		s.passed = s.passed.with(e.grace)
		return s, true
	default:
		return s.edit(e)
	}
}

func (s state) update(e *event) (state, bool) {
	switch {
	case e.got == missing:
		return s, !s.present()
	case !s.present() || !s.intact():
		return s, false
	case e.got == tooMany:
		valid := 1
		for n := range int64(len(s.versions)) {
			if s.valid(n+1) && (n+1 != s.current || e.grace != hasEnded) {
				valid++
			}
		}
		return s, valid > maxValid
	case e.version != s.current+1:
		return s, false
	}
	// Versions behind the current one are left from before an old row was put back.
	versions := make([]version, s.current, s.current+1)
	copy(versions, s.versions)
	versions[s.current-1].phase = e.grace
	s.versions = append(versions, version{value: e.value})
	s.current++
	return s, true
}

func (s state) read(e *event) (state, bool) {
	n, opens := s.current, s.intact()
	if e.act == actVersion {
		n = e.version
		if e.got == missing {
			return s, !s.present() || !s.valid(n)
		}
		opens = s.valid(n) && !s.versions[n-1].broken
		if e.got == damaged {
			return s, s.present() && s.valid(n) && !opens
		}
	}
	switch e.got {
	case missing:
		return s, !s.present()
	case damaged:
		return s, s.present() && !opens
	default:
		if !s.present() || !opens || n != e.version {
			return s, false
		}
		return s.holds(n, e.value, e.generated)
	}
}

func (s state) verify(e *event) (state, bool) {
	switch {
	case e.got == missing:
		return s, !s.present()
	case !s.present():
		return s, false
	case e.got == damaged:
		return s, !s.verifiable()
	case !s.verifiable():
		return s, false
	case e.got == matched:
		if !s.valid(e.version) {
			return s, false
		}
		return s.holds(e.version, e.value, e.generated)
	}
	for i, v := range s.versions {
		if s.valid(int64(i+1)) && v.value == e.value {
			return s, false
		}
	}
	return s, true
}

// edit is what is done by hand. Whoever does it has looked before, so an edit that doesn't fit is an error of the model.
func (s state) edit(e *event) (state, bool) {
	switch e.act {
	case actBack:
		s.away = false
		return s, s.there
	case actAway:
		s.away = true
		return s, s.there
	default:
	}
	if !s.present() {
		return s, false
	}
	switch e.act {
	case actBreak, actMend:
		s, ok := s.change(e.version, func(v *version) { v.broken = e.act == actBreak })
		if ok && e.also != 0 {
			s, ok = s.change(e.also, func(v *version) { v.broken = e.act == actBreak })
		}
		return s, ok
	case actHide, actShow:
		return s.change(e.version, func(v *version) { v.hidden = e.act == actHide })
	case actGrace:
		return s.change(e.version, func(v *version) { v.phase = e.grace })
	case actRollBack:
		s, ok := s.change(e.version, func(v *version) { v.phase = isCurrent })
		if ok {
			s.versions, s.current = s.versions[:e.version], e.version
		}
		return s, ok
	case actPoint:
		s.current = e.version
		return s, e.version >= 1 && e.version <= int64(len(s.versions))
	default:
		return s, false
	}
}
