// Carts under a constant number of users: writes, and reads that are checked.
//
//   statequake cluster up --dir /tmp/sq &
//   STATEQUAKE_RUN=/tmp/sq statequake-k6 run --out statequake=/tmp/cart-run cart.js
//   statequake check /tmp/cart-run
import { check } from 'k6';
import exec from 'k6/execution';
import statequake from 'k6/x/statequake';

export const options = {
  vus: 8,
  duration: __ENV.STATEQUAKE_DURATION || '10s',
  thresholds: {
    'statequake_op_duration{outcome:ok}': [__ENV.CART_P99 || 'p(99)<5000'],
    statequake_fail: ['count==0'],
    checks: ['rate>0.99'],
  },
};

const client = statequake.connect();

export default function () {
  // A cart keeps the ids of all its writes: a hundred of them, then the next
  // cart. The tag makes the key a new one, whatever ran before on the system.
  const round = Math.floor(exec.vu.iterationInInstance / 100);
  const key = `${statequake.tag()}-${exec.vu.idInTest}.${round}`;
  const added = client.invokeSync('cart', key, 'add', { item: 'tea', quantity: 1 });
  if (!added.ok) return; // info stays open, and the audit settles it
  const read = client.invokeSync('cart', key, 'get');
  if (!read.ok) return;
  check(read, { 'the cart holds my write': (r) => r.version >= added.version });
}
