package httpapi

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// into reads a value with read and puts it into dst.
func into[T any](read func(field string) (T, error), dst *T) func(string) error {
	return func(field string) (err error) {
		*dst, err = read(field)
		return err
	}
}

// orNull is into, but leaves dst alone at a null.
func orNull[T any](d decoder, read func(field string) (T, error), dst *T) func(string) error {
	return func(field string) error {
		if null, err := d.null(); null || err != nil {
			return err
		}
		return into(read, dst)(field)
	}
}

// pointer is orNull for what counts as absent.
func pointer[T any](d decoder, read func(field string) (T, error), dst **T) func(string) error {
	return func(field string) error {
		if null, err := d.null(); null || err != nil {
			return err
		}
		v, err := read(field)
		*dst = &v
		return err
	}
}

// optional reads a field of a partial update.
func optional[T any](d decoder, read func(field string) (T, error), dst *vault.Optional[T]) func(string) error {
	return func(field string) (err error) {
		dst.Set = true
		if dst.Null, err = d.null(); dst.Null || err != nil {
			return err
		}
		dst.Value, err = read(field)
		return err
	}
}

// fixed refuses a field that nothing changes once a secret is made.
func fixed(field string) error {
	return fault.Newf(fault.Invalid, "%s can't be changed: leave it out, or delete the secret and create another", field)
}

func required(field string) error { return fault.Newf(fault.Invalid, "%s is required", field) }

// given reads the material of a request. A null is refused in it: it neither is a value nor can it take one away.
func given(d decoder, g *vault.Given, m members) members {
	m["value"] = into(d.sensitiveText, &g.Value)
	m["value_base64"] = into(d.sensitiveBase64, &g.Binary)
	m["username"] = into(d.sensitiveText, &g.Username)
	m["password"] = into(d.sensitiveText, &g.Password)
	return m
}

func release(g vault.Given) {
	g.Value.Release()
	g.Binary.Release()
	g.Username.Release()
	g.Password.Release()
}

// decodeCreate reads the body of POST /v1/secrets. The caller releases what is given in r, also after an error.
func decodeCreate(body []byte) (r vault.CreateRequest, err error) {
	err = decodeDocument(body, func(d decoder) members {
		return given(d, &r.Given, members{
			"name":                   into(d.text, &r.Name),
			"kind":                   into(d.text, &r.Kind),
			"description":            orNull(d, d.text, &r.Description),
			"rotation_interval_secs": pointer(d, d.integer, &r.RotationIntervalSecs),
			"grace_period_secs":      orNull(d, d.integer, &r.GracePeriodSecs),
			"custom_metadata":        orNull(d, d.textMap, &r.CustomMetadata),
			"rotation_schedule":      pointer(d, d.schedule, &r.Schedule),
			"password_policy":        pointer(d, d.policy, &r.PasswordPolicy),
			"login_hosts":            orNull(d, d.texts, &r.LoginHosts),
			"target":                 pointer(d, d.target, &r.Target),
			"rotate_on_create":       orNull(d, d.boolean, &r.RotateOnCreate),
		})
	})
	switch {
	case err != nil:
	case r.Name == "":
		err = required("name")
	case r.Kind == "":
		err = required("kind")
	}
	return r, err
}

// decodeUpdate reads the body of PUT /v1/secrets/{name}. The caller releases what is given in r, also after an error.
func decodeUpdate(body []byte) (r vault.UpdateRequest, err error) {
	err = decodeDocument(body, func(d decoder) members {
		return given(d, &r.Given, members{
			"description":            optional(d, d.text, &r.Description),
			"rotation_interval_secs": optional(d, d.integer, &r.RotationIntervalSecs),
			"grace_period_secs":      optional(d, d.integer, &r.GracePeriodSecs),
			"custom_metadata":        optional(d, d.textMap, &r.CustomMetadata),
			"rotation_schedule":      optional(d, d.schedule, &r.Schedule),
			"password_policy":        optional(d, d.policy, &r.PasswordPolicy),
			"login_hosts":            optional(d, d.texts, &r.LoginHosts),
			"target":                 optional(d, d.target, &r.Target),
			"name":                   fixed,
			"kind":                   fixed,
			"format":                 fixed,
		})
	})
	return r, err
}

// decodeVerify reads the body of POST /v1/secrets/{name}/verify. The caller releases what is given, also after an error.
func decodeVerify(body []byte) (g vault.Given, err error) {
	err = decodeDocument(body, func(d decoder) members {
		return members{
			"value":        into(d.sensitiveText, &g.Value),
			"value_base64": into(d.sensitiveBase64, &g.Binary),
		}
	})
	return g, err
}

// decodeRollback reads the body of POST /v1/secrets/{name}/rollback.
func decodeRollback(body []byte, r *vault.RollbackRequest) error {
	err := decodeDocument(body, func(d decoder) members { return members{"version": into(d.integer, &r.Version)} })
	if err == nil && r.Version == 0 {
		err = required("version")
	}
	return err
}

// decodeEmpty reads a body that says nothing: none at all, or {}.
func decodeEmpty(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	return decodeDocument(body, func(decoder) members { return members{} })
}

// usualNames is how many names of a batch there is room for at once.
const usualNames = 64

// decodeBatch reads the body of POST /v1/batch/secrets.
func decodeBatch(body []byte) (names []string, err error) {
	err = decodeDocument(body, func(d decoder) members {
		return members{"names": func(field string) error {
			names = make([]string, 0, usualNames)
			return d.array(field, func(i int) error {
				if i == vault.MaxBatchNames {
					return fault.Newf(fault.Invalid, "names must be at most %d: split the batch", vault.MaxBatchNames)
				}
				element := field
				if d.json.PeekKind() != jsontext.KindString {
					element = fmt.Sprintf("%s[%d]", field, i) // for the error
				}
				name, err := d.text(element)
				names = append(names, name)
				return err
			})
		}}
	})
	if err == nil && names == nil {
		err = required("names")
	}
	return names, err
}

// decodeRole reads the body of POST /v1/roles.
func decodeRole(body []byte) (r vault.RoleRequest, err error) {
	err = decodeDocument(body, func(d decoder) members {
		return members{
			"name":        into(d.text, &r.Name),
			"description": orNull(d, d.text, &r.Description),
			"is_admin":    orNull(d, d.boolean, &r.IsAdmin),
			"permissions": into(d.permissions, &r.Permissions),
		}
	})
	switch {
	case err != nil:
	case r.Name == "":
		err = required("name")
	case r.Permissions == nil:
		err = required("permissions")
	}
	return r, err
}

// decodePermissions reads the body of PUT /v1/roles/{name}/permissions.
func decodePermissions(body []byte) (list []access.Permission, err error) {
	err = decodeDocument(body, func(d decoder) members {
		return members{"permissions": into(d.permissions, &list)}
	})
	if err == nil && list == nil {
		err = required("permissions")
	}
	return list, err
}

// permissions reads a list of permissions, which is not nil, even if it is empty. The vault judges what they say.
func (d decoder) permissions(field string) ([]access.Permission, error) {
	list := []access.Permission{}
	err := d.array(field, func(i int) error {
		var action, path string
		where := fmt.Sprintf("%s[%d]", field, i)
		err := d.object(where, where+".", members{"action": into(d.text, &action), "path": into(d.text, &path)})
		if err != nil {
			return err
		}
		list = append(list, access.Permission{Action: access.Action(action), Path: access.Pattern(path)})
		return nil
	})
	return list, err
}

// decodeToken reads the body of POST /v1/tokens.
func decodeToken(body []byte) (r vault.TokenRequest, err error) {
	err = decodeDocument(body, func(d decoder) members {
		return members{
			"name":            into(d.text, &r.Name),
			"role":            into(d.text, &r.Role),
			"expires_in_secs": pointer(d, d.integer, &r.ExpiresInSecs),
		}
	})
	switch {
	case err != nil:
	case r.Name == "":
		err = required("name")
	case r.Role == "":
		err = required("role")
	}
	return r, err
}
