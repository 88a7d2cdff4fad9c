package pgtarget

import (
	"errors"
	"testing"
	"testing/iotest"

	"github.com/sealkeep/sealkeep/internal/randomness"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
)

// The example of RFC 7677, section 3, whose user name PostgreSQL would not have sent.
func TestExchange_IsThatOfTheRFC(t *testing.T) {
	t.Parallel()
	password := sensitive.CopyString("pencil")
	defer password.Release()
	e := exchange{user: "user", nonce: "rOprNGfwEbeRWgbNEkqO", header: "n,,"}
	if first := string(e.first()); first != "n,,n=user,r=rOprNGfwEbeRWgbNEkqO" {
		t.Errorf("it begins with %s", first)
	}
	answer, err := e.answer([]byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), password)
	want := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	if err != nil || string(answer) != want {
		t.Errorf("the proof is %s, %v", answer, err)
	}
	if err := e.proven([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); err != nil {
		t.Error(err)
	}
	for _, final := range []string{
		"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", "v=", "", "e=invalid-proof",
	} {
		if e.proven([]byte(final)) == nil {
			t.Errorf("%q proves something", final)
		}
	}
}

// Its keys are those of the RFC's example, so that two independent computations agree on them.
func TestVerifier_IsWhatPostgreSQLKeeps(t *testing.T) {
	t.Parallel()
	password := sensitive.CopyString("pencil")
	defer password.Release()
	salt, _ := b64.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	got, err := verifier(password, salt)
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestI4_ABrokenSourceOfRandomnessChangesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	role := s.role(t, "")
	before := s.state(t, role.Username)
	for draws := range 3 {
		left := draws
		pg := newTarget(t, Config{Hosts: []string{s.address}, Random: reader(func(p []byte) (int, error) {
			if left--; left < 0 {
				return iotest.ErrReader(errors.New("broken")).Read(p)
			}
			return randomness.Reader.Read(p)
		})})
		if draws < 2 { // a salt, and a nonce
			want(t, "Apply", pg.Apply(t.Context(), role, fresh(t, role), 1), target.Transient)
		}
		left = draws
		want(t, "Test", pg.Test(t.Context(), role), target.Transient) // a wrong password, and two nonces
	}
	if after := s.state(t, role.Username); after != before {
		t.Errorf("the role had %s and has %s", before, after)
	}
}

type reader func(p []byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }
