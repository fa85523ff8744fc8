// 1,000 operations a second with ten users: each is due at its instant whatever
// the users do, waits if none of them is free, and its latency counts from then.
// With the executor constant-arrival-rate, k6 would drop it.
//
//   STATEQUAKE_RUN=/tmp/sq statequake-k6 run --out statequake=/tmp/pacer-run pacer.js
import statequake from 'k6/x/statequake';

const duration = __ENV.STATEQUAKE_DURATION || '10s';

export const options = {
  scenarios: {
    paced: { executor: 'constant-vus', vus: 10, duration },
  },
  thresholds: {
    statequake_send_lag: ['p(99)<1000'], // ms that the pacer itself was late
    statequake_unsent: ['count==0'],
  },
};

const client = statequake.connect();
const pacer = statequake.pacer({ rate: __ENV.PACER_RATE || '200/s', duration });

export default function () {
  const slot = pacer.next();
  if (slot === null) return; // the last one was handed out
  const key = `${statequake.tag()}-${slot.n % 40}.${Math.floor(slot.n / 10000)}`;
  client.invokeSync('counter', key, 'add', { n: 1 }, { due: slot });
}
