// Customers on a journey: look at the cart, add to it, pay. Paying is a transfer
// between two accounts; the customer's has some money from an earlier step.
//
//   STATEQUAKE_RUN=/tmp/sq statequake-k6 run --out statequake=/tmp/journey-run journey.js
import { check, group, sleep } from 'k6';
import exec from 'k6/execution';
import { Trend } from 'k6/metrics';
import statequake from 'k6/x/statequake';

export const options = {
  scenarios: {
    customers: { executor: 'constant-vus', vus: 5, duration: __ENV.STATEQUAKE_DURATION || '10s', gracefulStop: '10s' },
  },
  thresholds: {
    'statequake_op_duration{command:get}': ['p(99)<5000'],
    journey_duration: ['p(99)<10000'],
    checks: ['rate>0.9'],
  },
};

const client = statequake.connect();
const journeys = new Trend('journey_duration', true);

export default async function () {
  const began = Date.now();
  const customer = `${statequake.tag()}-${exec.vu.idInTest}.${Math.floor(exec.vu.iterationInInstance / 50)}`;
  const shop = `${statequake.tag()}-shop-${exec.vu.idInTest}.${Math.floor(exec.vu.iterationInInstance / 50)}`;

  group('browse', () => {
    check(client.invokeSync('cart', customer, 'get'), { 'the cart opens': (r) => r.ok });
  });
  sleep(0.02); // thinks

  // Two things at a time.
  const added = await Promise.all([
    client.invoke('cart', customer, 'add', { item: 'tea', quantity: 1 }),
    client.invoke('cart', customer, 'add', { item: 'cup', quantity: 1 }),
  ]);
  check(added, { 'both are in it': (all) => all.every((r) => r.ok) });

  client.invokeSync('account', customer, 'credit', { amount: 5 });
  const paid = client.invokeSync('transfer', customer, 'run', { to: shop, amount: 5 });
  check(paid, { 'it is paid for': (r) => r.ok });
  journeys.add(Date.now() - began);
}
