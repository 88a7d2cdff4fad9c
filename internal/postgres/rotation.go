package postgres

import "context"

// EnqueueDue is the query of that name, with plans that look rows up by their keys, as those of dedicated connections do: a plan that was
// made before anything fell due would go through all jobs for each secret, once thousands have.
func (d *DB) EnqueueDue(ctx context.Context, maxRows int32) (made int64, err error) {
	err = d.InTx(ctx, func(tx *Tx) error {
		if err := tx.PlanByKeys(ctx); err != nil {
			return err
		}
		made, err = tx.EnqueueDue(ctx, maxRows)
		return err
	})
	return made, err
}
