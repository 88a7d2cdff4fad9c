package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/kms"
	"github.com/sealkeep/sealkeep/internal/pgserver"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// tokenFile is the file of DIR that holds the admin token.
const tokenFile = "admin-token"

// prepareVault makes the master key, the vault and the admin token, as far as they are missing, and returns the token,
// which the caller releases.
func prepareVault(ctx context.Context, f *folder, server *pgserver.Server, env *environment) (sensitive.Bytes, error) {
	url := server.URL(operatorUser, databaseName)
	initialised, err := isInitialised(ctx, url)
	if err != nil {
		return sensitive.Bytes{}, err
	}
	if err := prepareMasterKey(env.keyFile, f, initialised); err != nil {
		return sensitive.Bytes{}, err
	}
	cfg, err := boot.LoadOffline(env.ofOffline(url))
	if err != nil {
		return sensitive.Bytes{}, err
	}
	defer cfg.Release()
	database, keeper, closeAll, err := boot.OpenOffline(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return sensitive.Bytes{}, err
	}
	defer closeAll()
	vaultConfig := vault.Config{Log: slog.New(slog.DiscardHandler)}
	if !initialised {
		return initialise(ctx, f, database, keeper, cfg.BootstrapToken, vaultConfig)
	}
	token, err := readToken(f)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	return recoverToken(ctx, f, database, keeper, vaultConfig)
}

func isInitialised(ctx context.Context, url string) (bool, error) {
	database, err := postgres.Open(ctx, postgres.Config{ConnString: url, Process: "sealkeep dev", MaxConns: 1})
	if err != nil {
		return false, err
	}
	defer database.Close()
	_, initialised, err := vault.LoadIdentity(ctx, database)
	return initialised, err
}

// prepareMasterKey makes the local master key of a new vault.
func prepareMasterKey(path string, f *folder, initialised bool) error {
	if path == "" {
		return nil // the user brings it
	}
	_, err := os.Stat(path)
	switch {
	case err == nil:
		return checkPrivate(path, 0o077)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case initialised:
		return fmt.Errorf("the vault in %s was made with the master key in %s, which is gone: put it back; without it nothing "+
			"in this vault can be opened", f.path, path)
	}
	text, err := kms.NewMasterKeyText(nil)
	if err != nil {
		return err
	}
	defer clear(text)
	return f.write("master-key", text)
}

// initialise makes the vault. The token is on disk before the vault knows it, so that a crash can't leave a vault
// without one.
func initialise(ctx context.Context, f *folder, database *postgres.DB, keeper vault.Keeper, bootstrap sensitive.Bytes, cfg vault.Config) (sensitive.Bytes, error) {
	token := bootstrap.Clone()
	if token.IsZero() {
		var err error
		if token, _, err = access.NewToken(nil); err != nil {
			return sensitive.Bytes{}, err
		}
	}
	if err := writeToken(f, token); err != nil {
		token.Release()
		return sensitive.Bytes{}, err
	}
	issued, err := vault.Init(ctx, database, keeper, token, cfg)
	if err != nil {
		token.Release()
		return sensitive.Bytes{}, fmt.Errorf("making the vault: %w", err)
	}
	issued.Release()
	return token, nil
}

// recoverToken issues another admin token for a vault whose file is gone.
func recoverToken(ctx context.Context, f *folder, database *postgres.DB, keeper vault.Keeper, cfg vault.Config) (sensitive.Bytes, error) {
	issued, err := vault.RecoverToken(ctx, database, keeper, vault.Recovery{Name: "dev-" + rand.Text()[:12]}, cfg)
	if err != nil {
		return sensitive.Bytes{}, fmt.Errorf("%s is gone, and no other token could be made: %w", f.file(tokenFile), err)
	}
	if err := writeToken(f, issued.Token); err != nil {
		issued.Release()
		return sensitive.Bytes{}, err
	}
	return issued.Token, nil
}

func writeToken(f *folder, token sensitive.Bytes) error {
	text := append(make([]byte, 0, token.Len()+1), token.Reveal()...)
	text = append(text, '\n')
	defer clear(text)
	return f.write(tokenFile, text)
}

func readToken(f *folder) (sensitive.Bytes, error) {
	file, err := os.Open(f.file(tokenFile))
	if err != nil {
		return sensitive.Bytes{}, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 1024))
	if err != nil {
		return sensitive.Bytes{}, err
	}
	defer clear(text)
	token := bytes.TrimSpace(text)
	if _, err := access.ParseToken(token); err != nil {
		return sensitive.Bytes{}, fmt.Errorf("%s holds no token: remove the file to get another one", file.Name())
	}
	return sensitive.Copy(token), nil
}
