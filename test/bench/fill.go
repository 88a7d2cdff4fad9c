package main

import (
	"context"
	"errors"

	"github.com/sealkeep/sealkeep/test/bench/dataset"
	"github.com/sealkeep/sealkeep/test/bench/load"
)

// makeVault builds the vault's program, makes its database and fills it.
func (b *bench) makeVault(ctx context.Context) (err error) {
	program, err := b.vaultProgram(ctx)
	if err != nil {
		return err
	}
	if b.vault, err = newVaultData(ctx, b.machine, "vault", program, b.options); err != nil {
		return err
	}
	return b.fillVault(ctx, b.vault)
}

// makeOther makes and fills the vault of the other build, if there is one.
func (b *bench) makeOther(ctx context.Context) (err error) {
	if b.against == "" {
		return nil
	}
	if b.other, err = newOtherData(ctx, b.machine, otherServer, b.options); err != nil {
		return err
	}
	return b.fillVault(ctx, b.other)
}

func (b *bench) fillVault(ctx context.Context, v *vaultData) (err error) {
	p, err := v.start(ctx, v.database+"-fill")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.process.Stop(stopPatience)) }()
	return b.fill(ctx, p, dataset.Hot, dataset.Changed)
}

func (b *bench) vaultProgram(ctx context.Context) (string, error) {
	if b.vaultBin != "" {
		return b.vaultBin, nil
	}
	b.say("building cmd/api")
	return b.build(ctx, "api")
}

// fill makes the secrets of the folders through the API, and a token that may read them. The server then knows the tables as
// it would after a minute anyway.
func (b *bench) fill(ctx context.Context, p *vaultProcess, folders ...string) error {
	for _, folder := range folders {
		b.say("making %d secrets in %s", b.secrets, folder)
		if err := b.fillFolder(ctx, p, folder, b.secrets); err != nil {
			return err
		}
	}
	if err := b.execute(ctx, p.data.database, "VACUUM (ANALYZE)"); err != nil {
		return err
	}
	return p.issueReader(ctx)
}

func (b *bench) fillFolder(ctx context.Context, p *vaultProcess, folder string, n int) error {
	t := p.target(vaultServer)
	shape := load.Spec{Connections: 16, Requests: uint64(n)}
	_, err := b.loadOnce(ctx, t, workCreate, dataset.Create(folder), shape)
	return err
}
